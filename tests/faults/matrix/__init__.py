"""The crash matrix: the operator killed before and after each call that changes something.

files
    scenarios  what is done, what must then hold; data
    objects    the resources that the scenarios use
    bed        one installation behind tamper proxies, one gateway pod, the kill
    subject    one account with its key, and the steps that scenarios are made of
    witness    a sender and an auditor who watch the whole time, and their judgement
    state      the end state, freed of times, ids and names
    runner     reference and crash runs, compared
    report     the table and build/faults/matrix.json (part.json: of some scenarios)
"""

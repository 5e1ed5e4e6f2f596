module sendward.io/lab/cyclonus

go 1.24

require github.com/mattfenwick/cyclonus v0.5.6

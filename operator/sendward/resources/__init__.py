"""The custom resources: models, rules, definitions, and the way from YAML to them."""

module sendward.io/load

go 1.25

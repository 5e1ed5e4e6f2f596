module sendward.io/lab/etcdutl

go 1.24.0

require go.etcd.io/etcd/etcdutl/v3 v3.6.8

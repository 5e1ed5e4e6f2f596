"""A kubelet stand-in: runs the Pods of a real API server as plain processes.

It interprets the Pod specification and knows nothing of what runs in the pods; which command an
image stands for is data (`tests.lab.images`). It must run as root inside the lab's own network and
mount namespaces (`python -m tests.lab.enter`).

files
    runner      watches the API server, registers the node, binds and starts pods; the public face
    pod         one pod from its admission to its removal
    containers  one container: start, restart with back-off, stop
    launch      the first code of a container's process: enters the namespaces, drops rights, execs
    probes      startup, readiness and liveness
    volumes     volume directories, swapped as the kubelet swaps them
    payload     what stands in a volume (pure)
    env         environment and argv (pure)
    refuse      parts of a Pod specification that are not supported (pure)
    hosts       /etc/hosts in place of a cluster DNS (pure)
    status      the Pod status (pure)
    network     network namespaces of pods and of test clients
    api         the API server over HTTP: requests and mirrors of collections

Differences from a real node, on purpose: no cgroups (`resources` have no effect), no seccomp or
AppArmor, no ClusterIP (a Service's name resolves to its pods' addresses), no variables for Services
other than the API server, no PID namespace per container (so its first process is no init), and
Secrets reach volumes after about a second instead of a minute.
"""

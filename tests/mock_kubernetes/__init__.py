"""A Kubernetes API for tests that have no cluster: kmock's emulator, and what Sevenfold relies on beyond it.

It is a real HTTP server on loopback, so the blocking and the asynchronous client meet the same one. Added are
server-side apply, versions, selectors, owners and watches (objects), a scheduler, kubelet and Job controller
of a few lines (batch), the controllers of Deployments (deployments), and rights, logs and faults that hit
chosen requests (server). What only a real cluster can show is in tests/kubernetes.
"""

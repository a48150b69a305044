"""The lab's hypervisor: answers Harvester's API and runs its machines with systemd-nspawn.

A real Kubernetes API server holds the objects; this package is the controller behind them. One file per kind
reconciles it (`images`, `volumes`, `virtual_machines`, `namespaces`): it reads what is wanted, looks at what
is there, does one step and writes the status. Nothing is remembered between two calls that cannot be found
again, so a controller that was killed goes on where its predecessor stopped, and never touches a machine
that runs.

    controller      watches (kopf), and calls the reconcilers when something changed or is due
    crds, policies  the kinds, and what is refused: Harvester's webhooks in the API server's own terms
    host            what is done to this host: mounts, machines; replaced by a fake in the contract tests

Owner references and foreground deletion are left to Kubernetes' own garbage collector, which runs beside.
Not done, because sitewright does not use it: live migration, snapshots, uploads, hotplug, disk quotas.
"""

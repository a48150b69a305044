"""A stand-in for the OpenCHAMI services: SMD, BSS, the cloud-init server, boot-service and PCS.

It answers the calls sitewright makes the way the real services do, quirks
included; what they answer was recorded in tests/data/contracts/ and the contract
test replays it. It is not OpenCHAMI: no authentication, one process, one SQLite
file. Point the site file's `provisioner:` at a real installation to replace it.
"""

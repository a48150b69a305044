"""The lab's BMCs: a Redfish service per BMC (the sushy-tools emulator) whose power button boots a node.

A node boots as a diskless node does: it asks the provisioner for its boot script, fetches the root file
system that the script names, checks its digest, puts an overlay in memory over it and starts, here as a
machine of `lab.machine`. Read ipxe.py, image.py and root.py for the steps, boot.py for their order,
power.py for the buttons, driver.py for what Redfish sees.

A node that the site file names in `lab.qemu_nodes` is a machine of `lab.emulator` instead, and does all of this itself:
qemu.py switches it on and reads its console, console.py knows what the lines mean.
"""

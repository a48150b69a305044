"""A provider named `random` that speaks the types of the official pulumi-random.

Read in this order: kinds.py (what each resource takes and gives), generate.py (where the randomness is made),
provider.py (the Pulumi protocol over that table).
"""

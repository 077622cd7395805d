"""State shared by replicas, in one Redis or Valkey. The only package that knows redis-py.

link       how every operation asks: deadlines, scripts, names of keys
counts     limits and once-only keys     journals   answers     posts   pushes
circuits   upstreams' circuits           vaults     personal data
revocations   sessions that ended        sessions   those that were seen of late
"""

"""Which zeros pay where: untrained nets and single layers, every pattern on every path.

A campaign (`bench/config/speed/*.yaml`) names nets. Their layers, each distinct shape once, and the
nets themselves are pruned at random places in each pattern and density, and timed by the protocol
of `bench.latency`. No training, no data, no network: it runs on a bare machine with torch.
"""

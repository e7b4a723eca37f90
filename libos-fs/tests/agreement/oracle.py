#!/usr/bin/env python3
"""What libCacheSim (https://libcachesim.com) counts on the traces of traces.rs, as rows of the table in
../agreement.rs. Needs `pip install libcachesim==0.3.5`; nothing in the build or the tests runs it."""

import bisect

import libcachesim

MASK = (1 << 64) - 1


def random(state):
    """SplitMix64: a function that draws a number below its argument."""

    def below(limit):
        nonlocal state
        state = state + 0x9E3779B97F4A7C15 & MASK
        bits = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & MASK
        bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & MASK
        return (bits ^ bits >> 31) % limit

    return below


def zipf(seed, blocks, references):
    total, cumulative = 0, []
    for rank in range(1, blocks + 1):
        total += (1 << 32) // rank
        cumulative.append(total)
    below = random(seed)
    return [bisect.bisect_right(cumulative, below(total)) for _ in range(references)]


def loops_and_scans(seed, rounds):
    below, references = random(seed), []
    for turn in range(rounds):
        references += list(range(700)) * 3
        references += [1_000_000 + turn * 400 + block for block in range(400)]
        references += [10_000 + below(300) for _ in range(1500)]
    return references


def drift(seed, count):
    below, references, last = random(seed), [], 0
    for position in range(count):
        kind = below(16)
        if kind in (1, 2):
            last = 100_000 + below(20_000)
        elif kind != 0:
            last = position // 1000 * 40 + below(500)
        references.append(last)
    return references


POLICIES = {
    "fifo": libcachesim.FIFO,
    "lru": libcachesim.LRU,
    "clock": libcachesim.Clock,
    "lru-2-forgetful": libcachesim.LRUK,
    "2q": libcachesim.TwoQ,
    "arc": libcachesim.ARC,
    "s3-fifo": libcachesim.S3FIFO,
    "sieve": libcachesim.Sieve,
    "opt": libcachesim.Belady,
}

TRACES = {
    "zipf": zipf(1, 5000, 20_000),
    "loops-and-scans": loops_and_scans(2, 5),
    "drift": drift(3, 20_000),
}

SIZES = [20, 100, 200, 500, 1000]


def next_uses(references):
    """For each reference the position of the next one to the same block, for Belady."""
    later, uses = {}, [0] * len(references)
    for position in range(len(references) - 1, -1, -1):
        uses[position] = later.get(references[position], (1 << 63) - 1)
        later[references[position]] = position
    return uses


def misses(policy, size, references):
    cache = policy(cache_size=size)
    request = libcachesim.Request()
    request.obj_size = 1
    count, uses = 0, next_uses(references)
    for position, block in enumerate(references):
        request.clock_time = position
        request.next_access_vtime = uses[position]
        request.obj_id = block + 1
        count += not cache.get(request)
    return count


if __name__ == "__main__":
    print(f"// libCacheSim {libcachesim.__version__}")
    for trace, references in TRACES.items():
        for name, policy in POLICIES.items():
            counts = [misses(policy, size, references) for size in SIZES]
            print(f'    ("{trace}", "{name}", {counts}),', flush=True)

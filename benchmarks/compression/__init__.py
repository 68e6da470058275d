"""Compares Saec with other methods by AUC and log loss at equal bytes on disk, keys counted for all.

    python -m benchmarks.compression --seeds 1 2 3 --jobs 2

All methods learn the same rows in the same order with the same network and `Learner`, hour by hour; each scored hour is
scored whole, by what was made of the hours before it. Bytes are those of what replaces the original's rows and keys;
the network, the same for all, is not counted.

    stretch    hours of a log, encoded once, and a census of their features
    stored     int8 rows and keyless indexes: what the peers' bytes are made of
    full       the original, what is made from its table, and Saec beside an original of its own
    beside     Saec, and its settings
    filtered   the original with rows for frequent features only
    hashed     peers without keys: the hashing trick, quotient-remainder embeddings
    decoding   training on vectors that are decoded from what is stored
    coded      a head of features with learnt codes: `low_bits`, `mixed_bits` (MPE), `trained_pq` (DPQ, MGQE), `cce`
    hashed_features  vectors by the key itself: `cafe` with its `hot_sketch`, `robe`
    ftrl       the linear floor
    settings   which contestants there are at which size, and what they are tuned over
    runs       passes in processes, kept as they finish; tuning on an earlier stretch
    judged     paired differences, within a seed and over seeds
    figures    the figures, and the record of the run
    page       docs/results.md
    truth      how well the known truth of simulated data does
"""

#!/usr/bin/env python3
"""What `against-peers` reckons: it reads what the tools print, lays out the order of trials, and turns pairs into verdicts.

The ratio of a pair says how good strata is beside its peer: above 1 is better, whichever way the response goes. An interval
is Student's on the logarithms of the pairs; a verdict also wants the exact signed-rank test to agree, and Holm's correction
over all comparisons of one response. Fewer than 6 pairs give no interval, fewer than 8 no verdict.

    pairs.py self-test
    pairs.py order SEED PAIRS NAME...
    pairs.py trial TOOL FILE COMPARISON PAIR PLACE SIDE STARTED_S
    pairs.py report FOLDER
"""

import json
import math
import os
import platform
import random
import re
import socket
import sys
import time

CONFIDENCE = 0.95
LEVEL = 1 - CONFIDENCE
FOR_INTERVAL = 6
FOR_CLAIM = 8
MOST_VOID = 0.2
# What is no difference worth telling, fixed beforehand: a ratio within 1/(1+DELTA) and 1+DELTA.
DELTA = 0.03
CONTROL = "control"


# --- statistics -----------------------------------------------------------------------------------------------------


def incomplete_beta(a, b, x):
    """The regularised incomplete beta function, by its continued fraction (Lentz)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    tiny = 1e-300
    c, d = 1.0, 1 / max(1 - (a + b) * x / (a + 1), tiny)
    fraction = d
    for m in range(1, 500):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + term * d
            d = 1 / (d if abs(d) > tiny else tiny)
            c = 1 + term / c
            c = c if abs(c) > tiny else tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * fraction / a


def t_above(t, freedom):
    """The probability that Student's t lies above `t`."""
    half = incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2
    return half if t >= 0 else 1 - half


def t_quantile(freedom, p):
    """Where Student's t lies below with probability `p`, which is above a half."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        if t_above(middle, freedom) > 1 - p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def moments(values):
    """Mean and its standard error."""
    n = len(values)
    mean = math.fsum(values) / n
    variance = math.fsum((v - mean) ** 2 for v in values) / (n - 1)
    return mean, math.sqrt(variance / n)


def t_p(t, freedom):
    return min(1.0, 2 * t_above(abs(t), freedom))


def signed_rank_p(differences):
    """Two-sided p of Wilcoxon's signed-rank test, exact also with ties; differences of 0 are left out."""
    differences = sorted((d for d in differences if d != 0), key=abs)
    if not differences:
        return 1.0
    # Twice the rank, so that the middle rank of tied ones is whole.
    ranks = []
    for d in differences:
        tied = [i for i, other in enumerate(differences) if abs(other) == abs(d)]
        ranks.append(tied[0] + tied[-1] + 2)
    ways = [1] + [0] * sum(ranks)
    for rank in ranks:
        for total in range(len(ways) - 1, rank - 1, -1):
            ways[total] += ways[total - rank]
    positive = sum(rank for rank, d in zip(ranks, differences) if d > 0)
    tail = min(sum(ways[: positive + 1]), sum(ways[positive:]))
    return min(1.0, 2 * tail / 2 ** len(ranks))


def holm(ps):
    """Holm's adjusted p values, in the order given."""
    adjusted, greatest = [0.0] * len(ps), 0.0
    for position, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        greatest = max(greatest, min(1.0, (len(ps) - position) * ps[index]))
        adjusted[index] = greatest
    return adjusted


def lag_one(values):
    """Autocorrelation of neighbours."""
    mean = math.fsum(values) / len(values)
    around = [v - mean for v in values]
    square = math.fsum(a * a for a in around)
    return math.fsum(a * b for a, b in zip(around, around[1:])) / square if square > 0 else 0.0


def slope(values):
    """Least squares' change a step."""
    middle = (len(values) - 1) / 2
    square = math.fsum((i - middle) ** 2 for i in range(len(values)))
    return math.fsum((i - middle) * v for i, v in enumerate(values)) / square if square > 0 else 0.0


def contrast(differences):
    """What differences of logarithms say: ratio, interval and the tests' p, or null where there are too few."""
    said = {
        "pairs": len(differences),
        "replicates": len(differences),
        "ratio": math.exp(math.fsum(differences) / len(differences)) if differences else None,
        "ci95_low": None,
        "ci95_high": None,
        "t_p": None,
        "signed_rank_p": None,
        "equal_p": None,
        "lag_one": None,
        "neighbours_averaged": False,
    }
    n = len(differences)
    if n < FOR_INTERVAL:
        return said
    said["lag_one"] = lag_one(differences)
    used = differences
    # Neighbours that go together, or against each other, are no replicates: they are made one, once.
    if abs(said["lag_one"]) > 2 / math.sqrt(n):
        used = [(a + b) / 2 for a, b in zip(differences[::2], differences[1::2])]
        said["neighbours_averaged"], said["replicates"] = True, len(used)
        if len(used) < FOR_INTERVAL:
            return said
    mean, error = moments(used)
    freedom = len(used) - 1
    half = t_quantile(freedom, 1 - LEVEL / 2) * error
    within = math.log1p(DELTA)
    if error > 0:
        said["t_p"] = t_p(mean / error, freedom)
        said["equal_p"] = max(
            t_above((within - mean) / error, freedom), t_above((within + mean) / error, freedom)
        )
    else:
        said["t_p"] = 1.0 if mean == 0 else 0.0
        said["equal_p"] = 0.0 if abs(mean) < within else 1.0
    said["ratio"] = math.exp(mean)
    said["ci95_low"], said["ci95_high"] = math.exp(mean - half), math.exp(mean + half)
    said["signed_rank_p"] = signed_rank_p(used)
    return said


def judge(said, adjusted, adjusted_equal, void, tried):
    """The verdict on one contrast, and why it is no stronger."""
    said["holm_p"], said["equal_holm_p"] = adjusted, adjusted_equal
    said["equal_within_delta"] = adjusted_equal is not None and adjusted_equal < LEVEL / 2
    said["verdict"], said["why"] = "cannot tell", None
    if tried and void / tried > MOST_VOID:
        said["why"] = f"{void} of {tried} pairs were void"
        said["equal_within_delta"] = False
    elif said["replicates"] < FOR_CLAIM:
        averaged = " after neighbours were averaged; give more --pairs" if said["neighbours_averaged"] else ""
        said["why"] = f"{said['replicates']} pairs, where a claim needs {FOR_CLAIM}{averaged}"
    elif adjusted >= LEVEL:
        said["why"] = "the interval holds 1" if said["t_p"] >= LEVEL else "not beside so many comparisons (Holm)"
    elif said["signed_rank_p"] > LEVEL:
        said["why"] = "the signed-rank test disagrees"
    else:
        said["verdict"] = "ahead" if said["ratio"] > 1 else "behind"
    return said


# --- what the tools print -------------------------------------------------------------------------------------------


def read_strata(text):
    """One document of `strata … --repeats 1 --json`."""
    document = json.loads(text)
    record = document["records"][0]
    if record["status"] != "ok":
        raise ValueError(f"{record['status']}: {record.get('reason')}")
    result = record["result"]
    said = {
        "ops_per_s": result["ops_per_s"],
        "bytes_per_s": result["bytes_per_s"],
        "cpu_ns_per_op": record["cost"]["cpu_ns_per_op"],
        "warnings": record["warnings"],
    }
    latency = result["latency_ns"]
    if latency:
        said |= {"p50_ns": latency["p50"], "mean_ns": latency["mean"], "p99_ns": latency["p99"]}
    # Excluded by what the proof found, never by the figure.
    against = record["proof"]["contradictions"]
    if against:
        said["void"] = f"its proof contradicts its placement: {against}"
    elif result["errors"] or result["lost"]:
        said["void"] = f"{result['errors']} errors, {result['lost']} lost"
    return said


def read_fio(text):
    """fio's --output-format=json; what it warns of may stand before the document."""
    document = json.loads(text[text.index("{") :])
    job = document["jobs"][0]
    side = max(job["read"], job["write"], key=lambda s: s["total_ios"])
    if job["error"]:
        raise ValueError(f"fio's error {job['error']}")
    busy = (job["usr_cpu"] + job["sys_cpu"]) / 100 * side["runtime"] * 1e6
    return {
        "ops_per_s": side["iops"],
        "bytes_per_s": side["bw_bytes"],
        "cpu_ns_per_op": busy / side["total_ios"],
        "p50_ns": side["clat_ns"].get("percentile", {}).get("50.000000"),
        "mean_ns": side["lat_ns"]["mean"],
    }


def read_iperf3(text):
    """`iperf3 -c … -J`: the bytes are the receiver's."""
    document = json.loads(text)
    if "error" in document:
        raise ValueError(document["error"])
    end = document["end"]
    cpu = end["cpu_utilization_percent"]
    return {
        "bytes_per_s": end["sum_received"]["bits_per_second"] / 8,
        "congestion": end.get("sender_tcp_congestion"),
        "cpu_percent": {"sender": cpu["host_total"], "receiver": cpu["remote_total"]},
    }


def read_sockperf(text):
    """`sockperf ping-pong --full-rtt`: whole round trips, in microseconds."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    if "Summary: Round trip is" not in text:
        raise ValueError("sockperf printed no round trips: " + text.strip().splitlines()[-1][:200])

    def at(what):
        found = re.search(what + r"\s*=\s*([0-9.]+)", text)
        return float(found[1]) * 1000 if found else None

    dropped = re.search(r"dropped messages = (\d+)", text)
    said = {
        "p50_ns": at(r"percentile 50\.000"),
        "mean_ns": at("avg-rtt") or float(re.search(r"Round trip is ([0-9.]+)", text)[1]) * 1000,
        "p99_ns": at(r"percentile 99\.000"),
    }
    if dropped and int(dropped[1]):
        said["void"] = f"{dropped[1]} messages were dropped"
    return said


def read_perftest(text):
    """`ib_write_bw` and its like: the average of all messages, in MiB/s; or `ib_write_lat` and its like: whole round trips,
    where those of writes and sends are told by half."""
    test = re.search(r"^ +(RDMA_Write|RDMA_Read|Send) (BW|Latency) Test", text, re.M)
    rows = re.findall(r"^ *(\d+) +(\d+) +([0-9.\s]+)$", text, re.M)
    if not test or len(rows) != 1:
        raise ValueError("perftest printed no figure")
    size, messages, rest = rows[0]
    figures = [float(word) for word in rest.split()]
    if test[2] == "BW":
        _, average, _ = figures
        if average == 0:
            raise ValueError("perftest could not tell the processor's frequency")
        return {"ops_per_s": average * 2**20 / int(size), "bytes_per_s": average * 2**20, "messages": int(messages)}
    least, greatest, typical, mean, *_ = figures
    trip = 1000 if test[1] == "RDMA_Read" else 2000
    return {
        "p50_ns": typical * trip,
        "mean_ns": mean * trip,
        "min_ns": least * trip,
        "max_ns": greatest * trip,
        "messages": int(messages),
    }


READERS = {
    "strata": read_strata,
    "fio": read_fio,
    "iperf3": read_iperf3,
    "sockperf": read_sockperf,
    "perftest": read_perftest,
}


def trial(tool, file, comparison, pair, place, side, started):
    """One trial as a line of JSON; a trial that cannot be read is void, and the reason is kept."""
    said = {
        "comparison": comparison,
        "pair": int(pair),
        "place": int(place),
        "side": side,
        "tool": tool,
        "started_s": float(started),
    }
    try:
        with open(file, encoding="utf-8", errors="replace") as f:
            said |= READERS[tool](f.read())
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, ZeroDivisionError) as error:
        said["void"] = f"{tool} printed nothing that can be read ({type(error).__name__}: {error})"
    print(json.dumps(said))
    return 1 if "void" in said else 0


# --- the order of trials --------------------------------------------------------------------------------------------


def order(seed, pairs, names):
    """Rounds of every comparison in random order, two pairs each: ours, theirs, theirs, ours. As (name, pair, first)."""
    draw = random.Random(seed)
    for block in range(pairs // 2):
        shuffled = list(names)
        draw.shuffle(shuffled)
        for name in shuffled:
            yield name, 2 * block, "ours"
            yield name, 2 * block + 1, "theirs"


# --- the report -----------------------------------------------------------------------------------------------------


def table(path):
    """Lines of keys and values, tabs between."""
    with open(path, encoding="utf-8") as f:
        return [line.rstrip("\n").split("\t") for line in f if line.strip()]


def complete(trials, response):
    """The pairs by their number: (ours, theirs, reason why void or none)."""
    found = {}
    for t in trials:
        found.setdefault((t["pair"]), {})[t["side"]] = t
    pairs = []
    for number in sorted(found):
        sides = found[number]
        void = next((s["void"] for s in sides.values() if "void" in s), None)
        a, b = (sides.get(side, {}).get(response) for side in ("ours", "theirs"))
        if void is None and not (a and b):
            void = "one side has no figure"
        pairs.append((number, a, b, void))
    return pairs


def compare(meta, trials):
    """Everything about one comparison but its verdict, which needs its family."""
    response, better = meta["response"], meta["better"]
    sign = 1 if better == "higher" else -1
    pairs = complete(trials, response)
    log = {n: sign * math.log(a / b) for n, a, b, _ in pairs if a and b}
    kept = [n for n, _, _, void in pairs if void is None]
    said = dict(meta)
    said |= contrast([log[n] for n in kept])
    said["void"] = [{"pair": n, "why": void} for n, _, _, void in pairs if void is not None]
    if said["void"]:
        said["ratio_with_void"] = contrast(list(log.values()))["ratio"]
    levels = [(math.log(a) + math.log(b)) / 2 for n, a, b, void in pairs if void is None]
    said["drift_per_pair"] = math.expm1(slope(levels)) if len(levels) > 2 else None
    for side, index in (("ours", 1), ("theirs", 2)):
        values = sorted(p[index] for p in pairs if p[3] is None)
        said[f"{side}_median"] = median(values)
        costs = sorted(
            t["cpu_ns_per_op"] for t in trials if t["side"] == side and t.get("cpu_ns_per_op") and "void" not in t
        )
        said[f"{side}_cpu_ns_per_op"] = median(costs)
    said["pairs_raw"] = [{"pair": n, "ours": a, "theirs": b} for n, a, b, _ in pairs]
    return said


def median(values):
    n = len(values)
    return None if n == 0 else (values[(n - 1) // 2] + values[n // 2]) / 2


def judged(comparisons):
    """Verdicts, by families: all comparisons of one response. Each control is by itself, being no claim."""
    families = {}
    for c in comparisons:
        alone = c["peer"] == "strata"
        family = f"{CONTROL} {c['name']}" if alone else c["response"]
        c["family"] = CONTROL if alone else family
        families.setdefault(family, []).append(c)
    for members in families.values():
        tested = [c for c in members if c["t_p"] is not None]
        for c, p, equal in zip(
            tested, holm([c["t_p"] for c in tested]), holm([c["equal_p"] for c in tested])
        ):
            judge(c, p, equal, len(c["void"]), len(c["pairs_raw"]))
        for c in members:
            c["family_size"] = len(members)
            if c["t_p"] is None:
                judge(c, None, None, len(c["void"]), len(c["pairs_raw"]))
    return comparisons


def figure(value, response):
    if value is None:
        return "–"
    if response == "ops_per_s":
        return f"{value / 1000:.1f} k/s"
    if response == "bytes_per_s":
        return f"{value * 8 / 1e9:.2f} Gb/s" if value > 1e8 else f"{value / 1e6:.1f} MB/s"
    return f"{value / 1000:.2f} µs"


def show(document):
    """The table, for people."""
    rows = [("comparison", "ours", "theirs", "ratio", "verdict")]
    for c in document["comparisons"]:
        ratio = "–" if c["ratio"] is None else f"{c['ratio']:.3f}"
        if c["ci95_low"] is not None:
            ratio += f" [{c['ci95_low']:.3f}, {c['ci95_high']:.3f}]"
        verdict = c["verdict"]
        if c["equal_within_delta"]:
            verdict += f", within {DELTA * 100:.0f} %"
        elif c["why"]:
            verdict += f": {c['why']}"
        rows.append(
            (c["name"], figure(c["ours_median"], c["response"]), figure(c["theirs_median"], c["response"]), ratio, verdict)
        )
    wide = [max(len(row[i]) for row in rows) for i in range(5)]
    for row in rows:
        print("  ".join(cell.ljust(w) for cell, w in zip(row, wide)).rstrip(), file=sys.stderr)
    for s in document["skipped"]:
        print(f"SKIP {s['name']}: {s['why']}", file=sys.stderr)
    for warning in document["warnings"]:
        print(f"against-peers: {warning}", file=sys.stderr)


def machine():
    model = "unknown"
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
            model = next((l.split(":", 1)[1].strip() for l in f if l.startswith("model name")), model)
    except OSError:
        pass
    return {"kernel": platform.release(), "cpu": model, "cpus": os.cpu_count(), "load_average": os.getloadavg()}


def report(folder):
    facts = {key: value for key, value in table(f"{folder}/facts.tsv")}
    columns = ("name", "peer", "response", "better", "told", "ours_command", "theirs_command", "server_command")
    metas = [dict(zip(columns, row)) for row in table(f"{folder}/comparisons.tsv")]
    skipped = [{"name": name, "why": why} for name, why in table(f"{folder}/skipped.tsv")]
    with open(f"{folder}/trials.jsonl", encoding="utf-8") as f:
        trials = [json.loads(line) for line in f]
    left_out = {s["name"] for s in skipped}
    comparisons = judged(
        [
            compare(meta, [t for t in trials if t["comparison"] == meta["name"]])
            for meta in metas
            if meta["name"] not in left_out
        ]
    )
    warnings = []
    for c in comparisons:
        if c["family"] == CONTROL and c["verdict"] != "cannot tell":
            warnings.append(
                f"{c['name']}: strata is {c['verdict']} of itself. One control in twenty says so by chance; if it does again, "
                "something here favours a place in the order, and no verdict above is worth more than that ratio"
            )
        if c["neighbours_averaged"]:
            warnings.append(f"{c['name']}: neighbouring pairs went together and were averaged in twos")
    document = {
        "schema": 1,
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "facts": facts,
        "machine": machine(),
        "method": {
            "interval": "Student's t on logarithms of pairs, 95 %",
            "claim": f"Holm over the comparisons of one response, and the exact signed-rank test agrees; {FOR_CLAIM} pairs at least",
            "ratio": "above 1: strata is better",
            "delta": DELTA,
            "order": "rounds of the comparisons in random order, those that write after all that read; in each ours, theirs, theirs, ours; a first run of each is thrown away",
        },
        "comparisons": comparisons,
        "skipped": skipped,
        "warnings": warnings,
        "trials": trials,
    }
    show(document)
    print(json.dumps(document, indent=1))
    claims = [c for c in comparisons if c["family"] != CONTROL]
    if not any(c["ratio"] is not None for c in claims):
        return 3
    return 1 if any(c["verdict"] == "behind" for c in claims) else 0


# --- known answers --------------------------------------------------------------------------------------------------


def self_test():
    def near(found, known, by=5e-5):
        assert abs(found - known) <= by, f"{found} is not {known}"

    for freedom, known in ((1, 12.70620), (7, 2.36462), (11, 2.20099), (23, 2.06866), (1000, 1.96234)):
        near(t_quantile(freedom, 0.975), known)
    # Student's own ten sleepers (Biometrika 1908).
    sleep = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    mean, error = moments(sleep)
    near(mean / error, 4.0621)
    near(t_p(mean / error, 9), 0.002833, 1e-6)
    said = contrast(sleep)
    near(math.log(said["ci95_low"]), 0.70011)
    near(math.log(said["ci95_high"]), 2.45989)

    # Hollander and Wolfe's nine patients: V = 40.
    before = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
    after = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
    near(signed_rank_p([a - b for a, b in zip(before, after)]), 0.0390625, 1e-9)
    near(signed_rank_p([1.0 + i for i in range(8)]), 2 / 256, 1e-12)
    near(signed_rank_p([1.0, -1.0]), 1.0, 1e-12)
    near(signed_rank_p([0.0, 0.0]), 1.0, 1e-12)
    # Of twelve, a rank sum of 13 is significant and one of 14 is not (any table of critical values).
    for negative, significant in (((12, 1), True), ((12, 2), False)):
        p = signed_rank_p([-i if i in negative else i for i in range(1, 13)])
        assert (p <= 0.05) == significant, p

    for found, known in zip(holm([0.01, 0.04, 0.03, 0.005]), (0.03, 0.06, 0.06, 0.02)):
        near(found, known, 1e-12)
    assert holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]
    near(lag_one([1, -1, 1, -1]), -0.75, 1e-12)
    near(slope([1.0, 3.0, 5.0]), 2.0, 1e-12)

    def verdict(ours, theirs, others=(), better="higher", peer="fio", void=0):
        trials = [
            {"comparison": "x", "pair": n, "side": side, "ops_per_s": v} | ({"void": "v"} if n < void else {})
            for n, ab in enumerate(zip(ours, theirs))
            for side, v in zip(("ours", "theirs"), ab)
        ]
        meta = {"name": "x", "peer": peer, "response": "ops_per_s", "better": better}
        family = [compare(meta, trials)]
        family += [dict(family[0], name=f"y{i}", t_p=p) for i, p in enumerate(others)]
        return judged(family)[0]

    noise = [1.0, 1.02, 1.01, 0.98, 0.99, 1.03, 1.0, 0.97, 0.985, 1.015, 1.005, 0.995]
    theirs = [100.0] * 12
    better = [110 * n for n in noise]
    assert verdict(better, theirs)["verdict"] == "ahead"
    near(verdict(better, theirs)["ratio"], 1.1, 1e-3)
    assert verdict(better, theirs, better="lower")["verdict"] == "behind"
    assert verdict(theirs, better)["verdict"] == "behind"
    same = verdict([100 * n for n in noise], theirs)
    assert same["verdict"] == "cannot tell" and same["equal_within_delta"], same
    little = verdict([102 * n for n in noise], theirs)
    assert little["verdict"] == "ahead" and not little["equal_within_delta"], little
    # The same figure beside twelve comparisons without an effect is no claim, but it is for a control, which has none.
    assert verdict([101.5 * n for n in noise], theirs)["verdict"] == "ahead"
    assert verdict([101.5 * n for n in noise], theirs, [0.9] * 12)["verdict"] == "cannot tell"
    assert verdict([101.5 * n for n in noise], theirs, [0.9] * 12, peer="strata")["verdict"] == "ahead"
    # One wild pair: ranks see an effect, t does not; and the other way round.
    wild = [-x for x in (0.010, 0.011, 0.012, 0.013, 0.014, 0.015, 0.016, 3.0)]
    said = judge(contrast(wild), *[contrast(wild)["t_p"]] * 2, 0, 8)
    assert said["signed_rank_p"] < 0.05 and said["verdict"] == "cannot tell", said
    odd = [3.0, 3.1, 3.2, 2.9, 2.8, -0.1, 3.3, -0.2, -0.3, -0.4, 2.7, -0.5]
    said = contrast(odd)
    said["t_p"], said["signed_rank_p"] = 0.01, 0.06
    assert judge(said, 0.01, 1.0, 0, 12)["why"] == "the signed-rank test disagrees"
    # Too few pairs, and too many void ones.
    assert verdict(better[:7], theirs[:7])["verdict"] == "cannot tell"
    assert verdict(better[:5], theirs[:5])["ci95_low"] is None
    voided = verdict(better, theirs, void=3)
    assert voided["verdict"] == "cannot tell" and len(voided["void"]) == 3, voided
    near(voided["ratio_with_void"], verdict(better, theirs)["ratio"], 1e-12)
    # Neighbours that go together are no replicates.
    waves = [0.1, 0.1, 0.1, 0.1, -0.1, -0.1, -0.1, -0.1, 0.1, 0.1, 0.1, 0.1]
    assert contrast(waves)["neighbours_averaged"] and contrast(waves)["replicates"] == 6

    bandwidth = "   RDMA_Write BW Test\n #bytes  BW average[MB/sec]\n 65536      400   58.52   39.21  \t\t   0.000627\n---\n"
    near(read_perftest(bandwidth)["bytes_per_s"], 41114664.96, 1e-2)
    near(read_perftest(bandwidth)["ops_per_s"], 627.36, 1e-2)
    half = "      Send Latency Test\n 64      200   17.01   8660.24  17.55 \t  538.94  \t1344.77\t\t5355.31 \t\t8660.24 \n---\n"
    near(read_perftest(half)["p50_ns"], 35100)
    near(read_perftest(half.replace("Send", "RDMA_Read"))["mean_ns"], 538940)
    for nothing in ("", bandwidth.replace("39.21", "0.00"), bandwidth.replace("Test", "")):
        try:
            read_perftest(nothing)
        except ValueError:
            continue
        raise AssertionError(f"read a figure from {nothing!r}")

    planned = list(order(7, 12, ["a", "b", "c"]))
    assert planned == list(order(7, 12, ["a", "b", "c"])) and len(planned) == 36
    for name in "abc":
        assert [(p, f) for n, p, f in planned if n == name] == [(p, ("ours", "theirs")[p % 2]) for p in range(12)]
    assert all(planned[i][0] == planned[i + 1][0] for i in range(0, 36, 2))
    assert all({n for n, _, _ in planned[i : i + 6]} == set("abc") for i in range(0, 36, 6))

    print("pairs.py: known answers found")
    return 0


def main(arguments):
    match arguments:
        case ["self-test"]:
            return self_test()
        case ["order", seed, pairs, *names]:
            for line in order(int(seed), int(pairs), names):
                print(*line)
        case ["trial", tool, file, comparison, pair, place, side, started]:
            return trial(tool, file, comparison, pair, place, side, started)
        case ["placement", file]:
            with open(file, encoding="utf-8") as f:
                placement = json.load(f)["records"][0]["placement"]
            print(placement["cpus"][0], placement["peer_cpus"][0])
        case ["port"]:
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                print(s.getsockname()[1])
        case ["report", folder]:
            return report(folder)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

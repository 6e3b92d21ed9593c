"""Between prefill and decode: the KV transfer, and the queues before prefill."""

from __future__ import annotations

from pdplan.architecture.stages import whole
from pdplan.explain.builder import Builder, Quantity, number
from pdplan.explain.case import Case
from pdplan.explain.sources import PLAN, QUESTION, network_constant
from pdplan.laws.kv_transfer import Network, goodput_bytes_per_s
from pdplan.layout import Layout
from pdplan.memory import sequence_parts
from pdplan.serving.queueing import service_spread_factor
from pdplan.serving.transfer import kv_transfer


def write_transfer(b: Builder, case: Case, service: Quantity) -> dict[str, Quantity]:
    """Section KV transfer; returns exposed time, lanes and wire time."""
    network = case.network
    assert network is not None
    b.section(
        "transfer",
        case.titled("KV transfer", "prefill", "decode"),
        "The cache of one prompt goes from a prefill to a decode worker, over their links side by side.",
    )
    prefill, decode = case.pools["prefill"], case.pools["decode"]
    found = kv_transfer(prefill, decode, case.workload, network, case.metrics.requests_per_s, service.value)
    size = _write_size(b, case, float(found.bytes))
    plan = {n: case.plan.pools[n] for n in ("prefill", "decode")}
    sides = {
        f"{k}_{n[0]}": Quantity(float(getattr(p, k)), "ranks", f"{PLAN}, {n}")
        for n, p in plan.items()
        for k in ("tp", "pp")
    }
    links = b.line("N_l", "links side by side", "min(tp_p*pp_p,tp_d*pp_d)", sides, "links", value=found.links)
    goodput = _write_goodput(b, case, network)
    latency = network_constant(case.world, "latency_s", network.latency_s, "s")
    layers = case.sources["prefill"].model(prefill.setting.stack.layers, "layers")
    expression, used = "t_l+S_c/(N_l*g)", {"t_l": latency, "S_c": size, "N_l": links, "g": goodput}
    if network.layer_latency_s:
        expression = f"t_l+L*t_y+{expression.removeprefix('t_l+')}"
        used |= {
            "L": layers,
            "t_y": network_constant(case.world, "layer_latency_s", network.layer_latency_s, "s"),
        }
    alone = b.line("t_k", "one transfer alone", expression, used, "s", value=found.alone_s, binding="network")
    lanes, sent = _write_lanes(b, case, links)
    wire = b.line("t_w", "time on the wire", "S_c/(N_l*g)", {"S_c": size, "N_l": links, "g": goodput}, "s")
    offered = b.line("a", "transfers under way, mean", "lam*t_w", {"lam": sent, "t_w": wire}, "erlang")
    b.line(
        "rho",
        "utilisation of the links",
        "a/c",
        {"a": offered, "c": lanes},
        "",
        value=case.metrics.utilisation["network"],
    )
    spread = Quantity(case.workload.arrival_cv, "", QUESTION), Quantity(0.0, "", "transfers of one size")
    wait = _write_wait(b, lanes, offered, sent, wire, spread, found.wait_s)[1]
    overlap = case.sources["prefill"].engine("transfer_overlap")
    used = {"o": overlap, "t_k": alone, "L": layers, "S": service, "W": wait}
    exposed = b.line(
        "t_x",
        "what a request waits for: sent layer by layer behind prefill as far as the engine does so",
        "o*max(t_k/L,t_k-S*(L-1)/L)+(1-o)*t_k+W",
        used,
        "s",
        value=found.exposed_s,
    )
    mean = b.line(
        "t_mean",
        "transfer with its wait, mean",
        "t_k+W",
        {"t_k": alone, "W": wait},
        "s",
        value=case.metrics.kv_transfer_mean_s,
    )
    return {"exposed": exposed, "lanes": lanes, "wire": wire, "mean": mean, "sent": sent}


def _write_lanes(b: Builder, case: Case, links: Quantity) -> tuple[Quantity, Quantity]:
    """Transfers side by side, and how many come to them: over the pool with fewer links for its requests."""
    plan = {n: case.plan.pools[n] for n in ("prefill", "decode")}
    gpus = {n: Quantity(float(p.gpus), "GPUs", f"{PLAN}, {n}") for n, p in plan.items()}
    name = "transfers that run side by side"
    if not case.arriving:
        used = {f"G_{n[0]}": x for n, x in gpus.items()} | {"N_l": links}
        return b.line("c", name, "max(floor(min(G_p,G_d)/N_l),1)", used, "lanes"), case.rate
    each = {n: case.plan.pools[n].gpus / case.arrivals(n).value for n in plan}
    few = "prefill" if each["prefill"] <= each["decode"] else "decode"
    note = f"{case.labels[few]} has fewer links for its requests"
    used = {"G": gpus[few], "N_l": links}
    return b.line("c", name, "max(floor(G/N_l),1)", used, "lanes", note=note), case.arrivals(few)


def _write_size(b: Builder, case: Case, value: float) -> Quantity:
    sources = case.sources["prefill"]
    setting = sources.setting
    lines = []
    for part in sequence_parts(
        setting.stack, setting.formats, Layout(), case.workload.isl, whole(setting.stack)
    ):
        entries = number(part.entries)
        used = {
            "L": sources.model(part.count, "layers"),
            "x": case.isl if entries == case.workload.isl else sources.model(entries, "entries"),
            "e": sources.model(part.elements, "elements"),
            "w": Quantity(part.bytes_per_element, "B", f"{part.name} format"),
        }
        lines.append(b.line("c", f"{part.name} of a prompt", "L*x*e*w", used, "B", detail=True))
    return b.total("S_c", "bytes of a prompt's cache, each once", lines, "B", prefix="c", value=value)


def _write_goodput(b: Builder, case: Case, network: Network) -> Quantity:
    given = case.world.network.bandwidth_bytes_per_s
    source = "the network given" if given else "links of the two accelerators, the slower one"
    used = {
        "B_n": Quantity(network.bandwidth_bytes_per_s, "B/s", source),
        "eta_n": network_constant(case.world, "efficiency", network.efficiency, ""),
    }
    value, name = goodput_bytes_per_s(network), "goodput of a link"
    if network.loss <= 0:
        return b.line("g", name, "B_n*eta_n", used, "B/s", value=value)
    given_source = "the network given"
    loss = {
        "loss": Quantity(network.loss, "", given_source),
        "rtt": Quantity(max(network.round_trip_s, 1e-9), "s", given_source),
        "packet": Quantity(network.packet_bytes, "B", f"{network.transport} packets"),
    }
    if network.transport == "rdma":
        window = b.line(
            "w",
            "packets in flight, repeated after a loss",
            "max(B_n*rtt/packet,1)",
            {"B_n": used["B_n"], "rtt": loss["rtt"], "packet": loss["packet"]},
            "packets",
        )
        return b.line(
            "g",
            f"{name}, go-back-N",
            "B_n*eta_n*(1-loss)/(1-loss+loss*w)",
            used | {"loss": loss["loss"], "w": window},
            "B/s",
            value=value,
        )
    return b.line(
        "g", f"{name}, TCP", "min(B_n*eta_n,packet/rtt*sqrt(1.5/loss))", used | loss, "B/s", value=value
    )


def _write_wait(
    b: Builder,
    servers: Quantity,
    offered: Quantity,
    arrivals: Quantity,
    service: Quantity,
    spread: tuple[Quantity, Quantity],
    value: object,
) -> tuple[Quantity, Quantity]:
    """Erlang C and the mean wait (Allen–Cunneen, with Cosmetatos' correction for even service).

    `spread`: coefficients of variation of gaps between arrivals, and of service.
    """
    waits = b.line(
        "C",
        "share of arrivals that wait, Erlang C",
        "erlang_c(c,a)",
        {"c": servers, "a": offered},
        "",
        note="a^c/c! / ((1−a/c)·Σ_{k<c} a^k/k! + a^c/c!); 1 where a ≥ c",
    )
    factor = _write_spread(b, servers, offered, spread)
    used = {"C": waits, "c": servers, "S": service, "lam": arrivals, "v": factor}
    wait = b.line("W", "mean wait", "C/(c/S-lam)*v", used, "s", value=value)
    return waits, wait


def _write_spread(
    b: Builder, servers: Quantity, offered: Quantity, spread: tuple[Quantity, Quantity]
) -> Quantity:
    """Mean wait over that of M/M/c: how even arrivals and services are."""
    cv, service_cv = spread
    busy = min(offered.value / servers.value, 1.0)
    value = service_spread_factor(servers.value, busy, cv.value, service_cv.value)
    both = {"c_a": cv, "c_s": service_cv}
    name = "wait over that of M/M/c"
    if service_cv.value > 1:
        return b.line("v", f"{name} (Allen–Cunneen)", "(c_a**2+c_s**2)/2", both, "", value=value)
    used = {"a": offered, "c": servers}
    rho = b.line("rho_q", "load of the queue", "max(min(a/c,1),1e-9)", used, "")
    expression = "min(max(1+(1-rho)*(c-1)*(sqrt(4+5*c)-2)/(16*rho*c),1),2)"
    even = b.line(
        "g", "M/D/c over half of M/M/c (Cosmetatos 1975)", expression, {"rho": rho, "c": servers}, ""
    )
    expression = "(c_a**2-1)/2+c_s**2+(1-c_s**2)*g/2"
    return b.line("v", f"{name} (Kimura 1994)", expression, both | {"g": even}, "", value=value)


def write_queueing(b: Builder, case: Case, found: dict[str, Quantity]) -> dict[str, Quantity]:
    """The queue before prefill: utilisation, who waits, how long, and the percentile."""
    name = case.prefilling
    closed = case.workload.concurrency is not None
    b.section(
        "queueing",
        case.titled("Waiting for prefill", name),
        "A closed loop: the wait follows from Little's law over the whole loop."
        if closed
        else "Arrivals at a server, which decodes as well, meet a G/G/1 queue of its own."
        if name == "colocated"
        else "Arrivals meet the servers of the pool as a G/G/c queue.",
    )
    service, prompts = found["S"], found["prompts"]
    work = found.get("S_q", service)
    queued = "S_q" if "S_q" in found else "S"
    servers = b.line(
        "c",
        "servers of the pool",
        "workers*n_s",
        {"workers": case.workers(name), "n_s": case.servers_per_worker(name)},
        "servers",
    )
    arrivals = case.arrivals(name)
    if prompts.value != 1:
        used = {"lam": arrivals, "b_p": prompts}
        arrivals = b.line("lam_b", "batches of prompts", "lam/b_p", used, "1/s")
    offered = b.line("a", "servers busy, mean", f"lam*{queued}", {"lam": arrivals, queued: work}, "erlang")
    b.line("rho", "utilisation of the servers", "a/c", {"a": offered, "c": servers}, "")
    cv, gaps = Quantity(case.workload.isl_cv, "", QUESTION), Quantity(case.workload.arrival_cv, "", QUESTION)
    value = case.metrics.parts["wait for prefill"]
    engine = case.pools[name].setting.constants.engine
    mixes = not closed and name == "colocated" and bool(engine.mixes_prefill)
    if closed:
        waits = b.line(
            "C", "share of requests that wait: the busy share", "min(a/c,1)", {"a": offered, "c": servers}, ""
        )
        wait = _write_closed_wait(b, case, found, service, value)
    elif name == "colocated":
        own = {"lam": arrivals, "c": servers}
        arrivals = b.line("lam_i", "arrivals at one server", "lam/c", own, "1/s")
        gaps = b.line(
            "c_i",
            "spread of their gaps: between a random share of all arrivals and every c-th",
            "sqrt(c_a**2/c+(1-1/c)/2)",
            {"c_a": gaps, "c": servers},
            "",
        )
        busy = b.line("a_i", "its prompts, mean", f"lam*{queued}", {"lam": arrivals, queued: work}, "erlang")
        one = Quantity(1.0, "servers", "each server has a queue of its own")
        waits, wait = _write_wait(b, one, busy, arrivals, work, (gaps, cv), None if mixes else value)
        if mixes:
            waits, wait, differing = _write_shared_steps(b, found, (arrivals, gaps), (waits, wait), value)
    else:
        waits, wait = _write_wait(b, servers, offered, arrivals, work, (gaps, cv), value)
    differing = differing if mixes else wait
    percentile = Quantity(case.slo.percentile, "", "the SLO")
    used = {"S": service, "W": differing, "C": waits, "pct": percentile}
    met = None if closed or name != "colocated" else found["t_p" if mixes else "D"]
    if cv.value > 0 or met is not None:
        expression, used = "wait_quantile(pct,C,W,S,cv)", used | {"cv": cv}
        note = "solves P(W + S > t) = 1 − percentile; P(W > t) = C·exp(−t·C/W)"
        if met is not None:
            expression, used = "wait_quantile(pct,C,W,S,cv,u)", used | {"u": met}
            note = note.replace("W + S", "W + U + S") + ", U uniform between 0 and u"
        if cv.value > 0:
            note += ", S lognormal, as 16 equally likely values"
    else:
        expression, note = "S+W/max(C,1e-12)*ln(max(C/(1-pct),1))", "P(W > t) = C·exp(−t·C/W)"
    title = "wait and prefill" if met is None else "what is left of a running step, wait and prefill"
    late = b.line("R", f"{title} at the percentile", expression, used, "s", note=note)
    return {"wait": wait, "late": late, "servers": servers, "offered": offered}


def _write_shared_steps(
    b: Builder,
    found: dict[str, Quantity],
    arriving: tuple[Quantity, Quantity],
    queue: tuple[Quantity, Quantity],
    value: object,
) -> tuple[Quantity, Quantity, Quantity]:
    """Who waits, the mean wait, and that with what prompts add to the step under way, where steps mix."""
    busy_share, wait = queue
    mean, plain = found["D"], found["t_p"]
    arrivals, gaps = arriving
    each = {"lam": arrivals}
    ahead = b.line(
        "W_a",
        "wait for prompts ahead, whose steps decode besides",
        "W*S/S_q",
        {"W": wait, "S": found["S_s"], "S_q": found["S_q"]},
        "s",
    )
    used = each | {"t_x": found["x_s"]}
    busy = b.line("rho_x", "share of time that prompts add", "min(lam*t_x,1)", used, "")
    joining = b.line(
        "mu",
        "prompts that come after it, before its step starts",
        "c_i**2*lam*(D/2+W_a)/(1+rho_x)",
        each | {"c_i": gaps, "D": mean, "W_a": ahead, "rho_x": busy},
        "prompts",
    )
    room = b.line(
        "h",
        "of which its step has room for half of what it holds besides",
        "(max(floor(M/n_0),1)-1)/2",
        {"M": found["M"], "n_0": found["n_0"]},
        "prompts",
    )
    total = b.line(
        "W",
        "mean wait, prompts that join the step included",
        "W_a+t_x*h*(1-h/max(h+mu,1e-12))",
        {"W_a": ahead, "t_x": found["t_x"], "h": room, "mu": joining},
        "s",
        value=value,
    )
    waits = b.line(
        "C",
        "share of arrivals that meet prompts: of the time, that in steps with prompts",
        "max(C,1-(1-rho_x)*exp(-lam*D))",
        {"C": busy_share, "rho_x": busy} | each | {"D": mean},
        "",
    )
    differing = b.line(
        "W_p",
        "wait that differs between arrivals: beyond half a step without prefill",
        "W+(D-t_p)/2",
        {"W": total, "D": mean, "t_p": plain},
        "s",
    )
    return waits, total, differing


def _write_closed_wait(
    b: Builder, case: Case, found: dict[str, Quantity], service: Quantity, value: object
) -> Quantity:
    name = case.decoding
    used = {
        "N_all": Quantity(float(case.workload.concurrency or 0), "requests", QUESTION),
        "N": found["N"],
        "workers": case.workers(name),
        "X": case.rate,
        "S": service,
        "t_h": found["handling"],
    }
    if name == "colocated":
        rest, used = "t_h+t_d", used | {"t_d": found["D"]}
    else:
        rest, used = "t_h+t_f+t_x", used | {"t_f": found["first"], "t_x": found["exposed"]}
    return b.line(
        "W",
        "wait: time outside decode, less what it is spent on",
        f"max((N_all-N*workers)/X-({rest})-S,0)",
        used,
        "s",
        value=value,
        note="Little's law over the loop; its rate was solved by Schweitzer's approximation (Lazowska 1984)",
    )

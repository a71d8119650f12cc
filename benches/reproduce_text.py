"""The sentences of docs/reproduce.md, around the tables that `reproduce_report.py` makes."""

INTRODUCTION = """\
# MP on real QEMU-KVM, reproduced

<!-- Made by benches/reproduce_report.py; do not edit. -->

{n} live migrations of real guests between two unpatched QEMUs ({qemu}; Linux {kernel}), over a
rate-limited link, each by [`mempattern migrate`](migrate.md) with one policy. `make reproduce`
does it all again; the raw results, pass by pass and decision by decision, are in
`benches/results/reproduce.jsonl`. A round has every guest under every policy once, in random
order. {rounds} rounds are complete, and {arms} of the other arms (guests of the guest program
under the dirty ring and TCG, under four policies); what was begun counts too. `relaxed-as-mp` has
intensive guests only: of the others MP took no more than QEMU's own limit allows.

Everybody may stop the guest for {ceiling:g} s and not longer. A migration that takes longer than
20 s (Linux guests: 40 s) is cancelled and counts as failed: by guest that is {patience} times
what MP takes. Only `mp` and `best` look at pages, so only their guests are traced.

- `stock`: QEMU's own limit of 300 ms. `auto-converge`: QEMU's own throttling, with its defaults.
- Relaxed, in three senses. `relaxed-least`: the smallest limit (in steps of a tenth of a second)
  with which this guest was seen to migrate in time, found beforehand by up to four migrations
  that are not counted here; nobody knows it in practice, and it is by its nature at the edge of
  convergence. `relaxed-as-mp`: a limit a tenth above the longest downtime that MP took of this
  guest before, as if it had been known. `relaxed-ceiling`: as high as the ceiling allows;
  `mempattern migrate` calls it `relaxed`.
- `kubevirt-ramp`, `kubevirt-stall`: KubeVirt's two, as [policies.md](policies.md) has them, but
  with clocks a tenth as long (not their polling, every 0.4 s). They are made for guests of many
  gigabytes; theirs would wait longer between two steps than our small guests take to migrate. How
  long they take here depends on that tenth.
- `mp`: MP as [classify.md](classify.md) reconstructs it. `best`: ours. It watches its guest for
  four seconds before it starts, which is not in its time; so its migrations start four seconds
  later in the guest's life, when `grow` has a larger working set.

Guests start from one saved state each, so that runs of one guest are much alike: what differs is
above all from guest to guest. Most runs were made while other work went on on the same two
processors, at a much lower priority. The processor is a virtual one and its KVM a paravirtual
one: compare within a table, and do not take the seconds for hardware's. *Least limit* is what
`relaxed-least` has for a guest."""
MAIN = """\
## Memory-intensive guests

KVM with the dirty log; the Linux guests under TCG, since the KVM here does not boot a Linux.
Means of the migrations that completed, each guest counting the same, with 95 % intervals for
these guests where there are three runs of each. *From outside* is for how long the guest stood
still as somebody sees who reads its own step counter in the memory of both processes (Linux: a
character every 5 ms on a serial port). *Moved*: QEMU said that it has completed, whatever
arrived. *Early*: stopped for more than {tolerance} ms, by QEMU's figure. *Over*: for more than
the ceiling, by QEMU's figure or from outside. *Not whole*: wrong memory afterwards, by the model
of the program, each page's count of writes and every other byte (in the first rounds the counts
only); the Linux guests check their data themselves.

`auto-converge` moves guests by taking time from them: up to {throttle} of it, in the mean."""
PICTURE = """\
![Success, time and downtime by policy](reproduce.png)

*Each dot a migration; bars their means, each guest counting the same. Dotted: 300 ms. Solid: the
ceiling.*"""
CLAIM = """\
## The thesis's claim

It has MP take 22 % less time and about 19 % less data than a QEMU whose downtime limit was
relaxed until the migration ended. Each guest is compared with itself; only guests that both move
count. Intervals are for guests like these: they resample guests, and the runs of each."""
LIMIT_FROM_THE_START = """\
**A limit that is right from the start** does as well or better: against one as high as the
ceiling `mp`'s time is {mp}, and `best`'s {best}. MP spends passes on watching, and a limit that
allows the same downtime needs none (`relaxed-as-mp` above). What a high limit costs is paid by
the guests that did not need it: `relaxed-ceiling` stops them for {relaxed}, where `best` does for
{calm_best}, `mp` for {calm_mp} and stock for {stock}. So the thesis's claim holds against the
smallest limit that works, which has little to commend it but its short downtime; and what a
classifier or a forecast is good for is to find the limit, guest by guest, without harm to the
others."""
CALM = """\
## Guests that are not memory intensive"""
ARMS = """\
## By how QEMU sees the writes, and what it loses

Under the dirty log every guest arrived whole. Under the dirty ring and under TCG some did not,
those among them that nobody traced or steered:"""
ARMS_TABLE = """\
- **Dirty ring.** The paravirtual KVM of this machine puts a page of its own into the ring at
  every exit. The ring overflows, though it has its most entries (65536; the kernel warns of it in
  `kvm_dirty_ring_push`), and QEMU loses writes. Its figures compare no policies: guests stood
  still there for seconds, seen from outside. The ring as such is covered where our own code reads
  it ([embedding.md](embedding.md), `csrc/kvm/ring.c`).
- **TCG.** QEMU 7.2 loses a guest's last writes in some migrations ([migrate.md](migrate.md)). The
  lower the limit, the more often: `best` set limits far below QEMU's 300 ms for guests that need
  no more, and `linux-idle` died of it at the destination. An untraced stock QEMU with such a
  limit lost it as well, in 6 of 7 trials that are not in this file. The controller has been
  changed since: of an emulated guest it sets no limit below QEMU's own. Traced guests lost writes
  more often than untraced ones, by the table; tracing makes some writes slower, which may widen
  QEMU's gap. Do not migrate under TCG what matters.

The guest program's guests, arm by arm:"""
EACH = """\
## Each memory-intensive guest"""
LIMIT = """\
## How well QEMU keeps its downtime limit

Whoever set it, by QEMU's own downtime; without the dirty ring. The controller stays 7 %, and at
least 25 ms, below the ceiling for what QEMU gets wrong, since its measure of the bandwidth is up
to 100 ms old."""
DOWNTIME = """\
## QEMU's downtime and the one seen from outside

By how much the second is longer; without the dirty ring."""

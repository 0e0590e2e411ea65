"""What bench/compare prints of its measurements: table, marks, plot."""
import statistics
from xml.sax.saxutils import escape

BASE = "nbdkit memory"
OURS = "twofold durable"


def shown(value, form="%.0f"):
    return "" if value is None else form % value


class Results:
    """Of each job and peer a measurement a round, in the order of the rounds."""

    def __init__(self, peers, jobs):
        self.peers = peers
        self.jobs = jobs
        self.runs = {(job, peer): [] for job in jobs for peer in peers}
        self.syscalls = {}
        self.fill_mb_per_s = {}

    def add(self, job, peer, run):
        self.runs[job, peer].append(run)

    def has(self, job, *peers):
        return job in self.jobs and all(peer in self.peers for peer in peers)

    def median(self, job, peer, key):
        values = [run[key] for run in self.runs[job, peer] if run[key] is not None]
        return statistics.median(values) if values else None

    def ratio(self, job, peer, other, key="iops"):
        """The median of the rounds' ratios."""
        pairs = zip(self.runs[job, peer], self.runs[job, other])
        return statistics.median(one[key] / two[key] for one, two in pairs)

    def table(self):
        lines = ["| job | peer | IOPS | MB/s | mean µs | p50 | p99 | p99.9 | CPU µs per I/O | of io_uring's workers | system calls per I/O | IOPS to nbdkit memory |",
                 "|---|---|---|---|---|---|---|---|---|---|---|---|"]
        for job in self.jobs:
            for peer in self.peers:
                def value(key, form="%.0f"):
                    return shown(self.median(job, peer, key), form)
                lines.append("| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %.2f |" % (
                    job, peer, value("iops"), value("mb_per_s"), value("mean_us"), value("p50_us"), value("p99_us"), value("p999_us"),
                    value("cpu_us_per_io", "%.1f"), value("workers_us_per_io", "%.1f"),
                    shown(self.syscalls.get((job, peer)), "%.2f"), self.ratio(job, peer, BASE)))
        lines += ["", "First fill, 128k in order, MB/s: " + ", ".join("%s %.0f" % item for item in self.fill_mb_per_s.items())]
        return "\n".join(lines)

    def mark_rows(self):
        """(what, reach, stretch, measured, whether more is better), for marks of which everything was measured."""
        dsync, one_file, quorum = "raw two files dsync", "raw one file", "qemu quorum writethrough"
        write1, write32 = "4k randwrite depth 1", "4k randwrite depth 32"
        read1, read32, hot = "4k randread depth 1", "4k randread depth 32", "4k randread hot depth 32"
        if self.has(write32, OURS):
            yield write32 + " to nbdkit memory", 0.5, 0.75, self.ratio(write32, OURS, BASE), True
            if self.has(write32, dsync):
                yield write32 + " to two raw dsync files", 1.3, 2, self.ratio(write32, OURS, dsync), True
            if self.has(write32, quorum):
                yield write32 + " to quorum", 6, 9, self.ratio(write32, OURS, quorum), True
        if self.has(write1, OURS, dsync):
            sums = [ours["p50_us"] / (raw["p50_us"] + nbd["p50_us"])
                    for ours, raw, nbd in zip(*(self.runs[write1, peer] for peer in (OURS, dsync, BASE)))]
            yield write1 + " p50 to raw dsync p50 + nbdkit memory p50", 1.15, 1, statistics.median(sums), False
        if self.has(read32, OURS, one_file):
            yield read32 + " to raw O_DIRECT", 0.9, None, self.ratio(read32, OURS, one_file), True
        if self.has(read1, OURS, one_file):
            above = [ours["mean_us"] - raw["mean_us"] - nbd["mean_us"]
                     for ours, raw, nbd in zip(*(self.runs[read1, peer] for peer in (OURS, one_file, BASE)))]
            yield read1 + " mean above raw mean + nbdkit memory mean, µs", 20, None, statistics.median(above), False
        if self.has(hot, OURS):
            yield hot + " to nbdkit memory", 0.7, 0.9, self.ratio(hot, OURS, BASE), True
        if self.has("128k write depth 16", OURS, dsync):
            yield "128k write depth 16 to two raw dsync files", 0.85, None, self.ratio("128k write depth 16", OURS, dsync), True
        if self.has("128k read depth 16", OURS, one_file):
            yield "128k read depth 16 to raw O_DIRECT", 0.9, None, self.ratio("128k read depth 16", OURS, one_file), True
        if self.has(write32, OURS):
            yield write32 + ", server CPU per write to nbdkit memory's", 2, 1.5, self.ratio(write32, OURS, BASE, "cpu_us_per_io"), False
        if self.has(write32, OURS, dsync):
            tails = [ours["p999_us"] / ours["p50_us"] / (raw["p999_us"] / raw["p50_us"])
                     for ours, raw in zip(self.runs[write32, OURS], self.runs[write32, dsync])]
            yield write32 + ", p99.9/p50 to that of two raw dsync files", 1.3, None, statistics.median(tails), False

    def marks(self):
        lines = ["| mark | reach | stretch | measured | |", "|---|---|---|---|---|"]
        for what, reach, stretch, measured, more in self.mark_rows():
            def holds(mark):
                return mark is not None and (measured >= mark if more else measured <= mark)
            verdict = "" if reach is None else "stretch" if holds(stretch) else "reached" if holds(reach) else "missed"
            lines.append("| %s | %s | %s | %.2f | %s |" % (what, shown(reach, "%g"), shown(stretch, "%g"), measured, verdict))
        return "\n".join(lines)

    def as_json(self):
        return {
            "first_fill_mb_per_s": self.fill_mb_per_s,
            "runs": [{"job": job, "peer": peer, "syscalls_per_io": self.syscalls.get((job, peer)), "rounds": runs}
                     for (job, peer), runs in self.runs.items()],
            "marks": [{"mark": what, "reach": reach, "stretch": stretch, "measured": measured}
                      for what, reach, stretch, measured, _ in self.mark_rows()],
        }

    def svg(self):
        """A bar a peer, of its ratio to nbdkit memory, in a block a job; bars that leave the frame are cut and say by how much."""
        # Debian's matplotlib does not install beside Boost 1.81, and this is a dozen lines.
        left, width, bar, longest = 230, 620, 15, 1.5
        rows, y = [], 50
        for job in self.jobs:
            rows.append('<text x="8" y="%d" font-weight="bold">%s</text>' % (y + 11, escape(job)))
            y += 18
            for peer in self.peers:
                ratio = self.ratio(job, peer, BASE)
                length = min(ratio, longest) / longest * width
                color = "#0b6e4f" if peer.startswith("twofold") else "#8d99ae"
                rows.append('<text x="%d" y="%d" text-anchor="end">%s</text>' % (left - 8, y + 11, escape(peer)))
                rows.append('<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>' % (left, y, length, bar - 3, color))
                rows.append('<text x="%.1f" y="%d">%.2f</text>' % (left + length + 4, y + 10, ratio))
                y += bar
            y += 10
        return ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">\n'
                '<rect width="100%%" height="100%%" fill="white"/>\n'
                '<text x="8" y="22" font-size="15">I/O per second to nbdkit memory (one copy, in RAM)</text>\n%s\n</svg>\n'
                % (left + width + 60, y, "\n".join(rows)))

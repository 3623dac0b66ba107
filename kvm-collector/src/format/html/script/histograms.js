// Draws a histogram per exit reason.

const histograms = (it) => {
  const box = document.getElementById("histograms");
  if (!box) return;
  const buckets = it.histograms.flatMap((histogram) => histogram.buckets);
  if (!buckets.length) {
    box.textContent = "No exit has a duration.";
    return;
  }
  const log = (ns) => Math.log10(Math.max(1, ns));
  const low = Math.floor(log(Math.min(...buckets.map((bucket) => bucket[0]))));
  const high = Math.max(low + 1, Math.ceil(log(Math.max(...buckets.map((bucket) => bucket[1])))));
  const width = 320;
  const height = 120;
  const bottom = height - 16;
  const x = (ns) => 8 + ((Math.max(low, log(ns)) - low) / (high - low)) * (width - 16);
  for (const histogram of it.histograms) {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const name = document.createElement("strong");
    name.textContent = histogram.reason;
    const summary = ` ${plural(histogram.count, "exit")}, median ${histogram.p50}, p99 ${histogram.p99}`;
    caption.append(name, summary);
    figure.append(caption);
    const svg = make(figure, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": histogram.reason + summary });
    const maxCount = Math.max(...histogram.buckets.map((bucket) => bucket[2]));
    make(svg, "line", { x1: 8, x2: width - 8, y1: bottom, y2: bottom, class: "rule" });
    const every = high - low >= 5 ? 2 : 1;
    for (let decade = low; decade <= high; decade += every) {
      const at = x(10 ** decade);
      make(svg, "line", { x1: at, x2: at, y1: 4, y2: bottom + 3, class: "rule" });
      const anchor = decade === low ? "start" : decade + every > high ? "end" : "middle";
      make(svg, "text", { x: at, y: height - 3, "text-anchor": anchor }, time(10 ** decade));
    }
    for (const [from, to, count] of histogram.buckets) {
      const barHeight = Math.max(1, (count / maxCount) * (bottom - 8));
      const bar = make(svg, "rect", {
        x: x(from), y: bottom - barHeight, width: Math.max(1, x(to) - x(from) - 0.4), height: barHeight, class: "bucket",
      });
      make(bar, "title", {}, `${time(from)} to ${time(to)}: ${count}`);
    }
    for (const ns of [histogram.p50_ns, histogram.p99_ns]) {
      make(svg, "line", { x1: x(ns), x2: x(ns), y1: 4, y2: bottom, class: "mark" });
    }
    box.append(figure);
  }
};

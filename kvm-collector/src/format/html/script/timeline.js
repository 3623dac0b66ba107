// Draws the charts over time.

const LEFT = 46;
const RIGHT = 10;

// Merges the tracks of all vCPUs: adds their exits, and averages their shares of time.
const mergeTracks = (it) => {
  const sum = (lists) => {
    const total = new Array(it.bins).fill(0);
    for (const list of lists) list.forEach((value, bin) => { total[bin] += value; });
    return total;
  };
  const parts = it.parts.map((_, part) => sum(it.tracks.map((track) => track.parts[part])));
  const tracks = it.tracks.length;
  return {
    name: tracks ? "all vCPUs" : "all events",
    exits: tracks ? sum(it.tracks.map((track) => track.exits)) : it.events,
    parts: tracks ? parts.map((part) => part.map((value) => value / tracks)) : [],
  };
};

const timeline = (it) => {
  const box = document.getElementById("timeline");
  const select = document.getElementById("track");
  const clockSelect = document.getElementById("clock");
  const readout = document.getElementById("readout");
  const clocks = clocksFor(it.start);
  clocks.forEach(([name], index) => clockSelect.append(new Option(name, index)));
  if (clocks.length < 2) clockSelect.closest("label").remove();
  if (!it.bins) {
    box.textContent = "The recording contains no events.";
    select.closest("p").remove();
    return;
  }
  const tracks = [mergeTracks(it)];
  if (it.tracks.length > 1) tracks.push(...it.tracks);
  tracks.forEach((track, index) => select.append(new Option(track.name, index)));
  if (tracks.length < 2) select.closest("label").remove();
  const clock = () => clocks[clockSelect.value || 0][1];
  const seconds = (bin) => Math.max(1, Math.min(it.bin_ns, it.elapsed_ns - bin * it.bin_ns)) / 1e9;
  // A last bin shorter than a quarter of the others is omitted: its rate would be misleading.
  const bins = it.bins > 1 && seconds(it.bins - 1) < it.bin_ns / 1e9 / 4 ? it.bins - 1 : it.bins;
  const shownNs = Math.max(1, Math.min(it.elapsed_ns, bins * it.bin_ns));
  const rateUnit = it.tracks.length ? "exits/s" : "events/s";
  let cursor = -1;
  let drawnWidth = 0;
  let cursors = [];
  let x = () => 0;

  const showReadout = (bin) => {
    const track = tracks[select.value || 0];
    const text = [`at ${clock().text(bin * it.bin_ns, it.bin_ns)}:`, `${number(track.exits[bin] / seconds(bin))} ${rateUnit}`];
    const binFraction = seconds(bin) / (it.bin_ns / 1e9);
    track.parts.forEach((part, index) => {
      const share = (part[bin] || 0) / 10 / binFraction;
      if (share >= 0.05) text.push(`${it.parts[index]} ${share.toFixed(1)} %`);
    });
    if (it.lost[bin]) text.push(`${plural(it.lost[bin], "event")} lost`);
    readout.textContent = `${text[0]} ${text.slice(1).join(", ")}`;
  };

  const moveCursor = (bin) => {
    cursor = Math.max(0, Math.min(bins - 1, bin));
    for (const line of cursors) {
      line.setAttribute("x1", x(cursor + 0.5));
      line.setAttribute("x2", x(cursor + 0.5));
      line.removeAttribute("visibility");
    }
    showReadout(cursor);
  };

  const drawAxes = (width, height, title, top, unit) => {
    const svg = make(box, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: "0", "aria-label": title });
    make(svg, "text", { x: LEFT, y: 11, class: "title" }, title);
    const bottom = height - 18;
    for (const part of [0, 0.5, 1]) {
      const y = bottom - part * (bottom - 20);
      make(svg, "line", { x1: LEFT, x2: width - RIGHT, y1: y, y2: y, class: "rule" });
      make(svg, "text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, number(top * part) + unit);
    }
    const date = clock().title();
    if ((title.length + date.length) * 7 < width - LEFT) {
      make(svg, "text", { x: width - RIGHT, y: 11, "text-anchor": "end" }, date);
    }
    // Ticks at round times, with space for their labels. A label that does not fit at an edge is omitted.
    const span = width - LEFT - RIGHT;
    const labelWidth = (stepNs) => 6.5 * clock().label(0, stepNs).length + 16;
    let step = clock().step(Math.max(1, shownNs / 8));
    while ((step / shownNs) * span < labelWidth(step)) step = clock().step(step * 1.01);
    for (let ns = clock().first(step); ns <= shownNs; ns += step) {
      const at = LEFT + (ns / shownNs) * span;
      make(svg, "line", { x1: at, x2: at, y1: bottom, y2: bottom + 3, class: "rule" });
      const half = labelWidth(step) / 2 - 8;
      if (at - half < 0 || at + half > width) continue;
      make(svg, "text", { x: at, y: height - 4, "text-anchor": "middle" }, clock().label(ns, step));
    }
    return [svg, bottom];
  };

  const drawLosses = (svg, bottom) => {
    it.lost.forEach((lost, bin) => {
      if (!lost) return;
      const at = x(Math.min(bin, bins - 1) + 0.5);
      const group = make(svg, "g");
      make(group, "line", { x1: at, x2: at, y1: 20, y2: bottom, class: "lost" });
      make(group, "path", { d: `M${at - 5} 13h10l-5 7z`, class: "lost-mark" });
      make(group, "title", {}, `${plural(lost, "event")} lost`);
    });
    cursors.push(make(svg, "line", { x1: 0, x2: 0, y1: 20, y2: bottom, class: "cursor", visibility: "hidden" }));
  };

  const draw = () => {
    const width = Math.max(260, box.clientWidth || 260);
    drawnWidth = width;
    const track = tracks[select.value || 0];
    const focused = [...box.children].indexOf(document.activeElement);
    box.replaceChildren();
    cursors = [];
    const span = width - LEFT - RIGHT;
    x = (bin) => LEFT + Math.min(1, (bin * it.bin_ns) / shownNs) * span;

    const rates = track.exits.slice(0, bins).map((count, bin) => count / seconds(bin));
    const top = roundUp(Math.max(...rates));
    const [rate, bottom] = drawAxes(width, 150, `${rateUnit}, ${track.name}`, top, "");
    const y = (value) => bottom - (value / top) * (bottom - 20);
    const line = rates.map((value, bin) => `${x(bin).toFixed(1)} ${y(value).toFixed(1)}H${x(bin + 1).toFixed(1)}`).join("L");
    make(rate, "path", { d: `M${x(0)} ${bottom}L${line}V${bottom}Z`, class: "under" });
    make(rate, "path", { d: `M${line}`, class: "rate" });
    drawLosses(rate, bottom);

    if (track.parts.some((part) => part.length)) {
      const [share, baseline] = drawAxes(width, 170, `time share, ${track.name}`, 100, " %");
      const stacked = new Array(bins).fill(0);
      track.parts.forEach((part, index) => {
        if (!part.some((value) => value > 0)) return;
        const upper = [];
        const lower = [];
        for (let bin = 0; bin < bins; bin++) {
          const total = (seconds(bin) / (it.bin_ns / 1e9)) * 1000;
          const from = stacked[bin];
          const to = Math.min(1, from + (part[bin] || 0) / total);
          stacked[bin] = to;
          const at = (value) => (baseline - value * (baseline - 20)).toFixed(1);
          upper.push(`${x(bin).toFixed(1)} ${at(to)}H${x(bin + 1).toFixed(1)}`);
          lower.unshift(`${x(bin + 1).toFixed(1)} ${at(from)}H${x(bin).toFixed(1)}`);
        }
        const path = make(share, "path", { d: `M${upper.join("L")}L${lower.join("L")}Z`, class: `f-${it.parts[index]}` });
        make(path, "title", {}, it.parts[index]);
      });
      drawLosses(share, baseline);
    }
    if (focused >= 0 && box.children[focused]) box.children[focused].focus();
    if (cursor >= 0) moveCursor(cursor);
  };

  const moveToPointer = (event) => {
    const bounds = box.getBoundingClientRect();
    const span = drawnWidth - LEFT - RIGHT;
    const fraction = (event.clientX - bounds.left - LEFT) / span;
    moveCursor(Math.floor((fraction * shownNs) / it.bin_ns));
  };
  box.addEventListener("pointermove", moveToPointer);
  box.addEventListener("pointerdown", moveToPointer);
  box.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 : 1;
    const to = { ArrowLeft: cursor - step, ArrowRight: cursor + step, Home: 0, End: bins - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    moveCursor(to);
  });
  select.addEventListener("change", draw);
  clockSelect.addEventListener("change", draw);
  draw();
  new ResizeObserver(() => {
    if (Math.abs(box.clientWidth - drawnWidth) > 1) draw();
  }).observe(box);
};

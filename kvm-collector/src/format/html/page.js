// Draws the charts from the JSON in the page, and sorts and filters the tables. Text never becomes markup: it is only
// set as text or as an attribute. The body gets data-ready when everything is drawn, and data-error with a message if
// the script fails.
(() => {
  "use strict";

  const SVG = "http://www.w3.org/2000/svg";

  const make = (parent, name, attributes, text) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };

  // Same format as in the rest of the page, but with three digits, for axes and the readout.
  const time = (ns) => {
    for (const [unit, size] of [["s", 1e9], ["ms", 1e6], ["us", 1e3]]) {
      if (ns >= size) return `${+(ns / size).toPrecision(3)} ${unit}`;
    }
    return `${Math.round(ns)} ns`;
  };
  const number = (value) => {
    if (value >= 1e6) return `${+(value / 1e6).toPrecision(3)} M`;
    if (value >= 1e4) return `${+(value / 1e3).toPrecision(3)} k`;
    return `${+value.toPrecision(3)}`;
  };

  const plural = (count, unit) => `${count.toLocaleString("en")} ${unit}${count === 1 ? "" : "s"}`;

  // Rounds up to a round number, for the upper end of an axis.
  const roundUp = (value) => {
    if (!(value > 0)) return 1;
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 2, 4, 5, 8, 10].map((it) => it * power).find((it) => it >= value * 0.999) || value;
  };

  // Rounds up to 1, 2 or 5 times a power of ten, for the step of an axis.
  const roundStep = (value) => {
    const power = 10 ** Math.floor(Math.log10(value) + 1e-9);
    return [1, 2, 5, 10].map((it) => it * power).find((it) => it >= value * 0.999);
  };

  const data = () => JSON.parse(document.getElementById("data").textContent);

  // ---- dates and times of day

  const UTC = { name: () => "UTC", offsetMs: () => 0 };
  const LOCAL = {
    name: (date) => {
      const parts = new Intl.DateTimeFormat("en", { timeZoneName: "short" }).formatToParts(date);
      return parts.find((part) => part.type === "timeZoneName").value;
    },
    offsetMs: (date) => -60000 * date.getTimezoneOffset(),
  };

  // Returns the date and the time of day in a time zone.
  const inZone = (date, zone) => {
    const text = new Date(date.getTime() + zone.offsetMs(date)).toISOString();
    return [text.slice(0, 10), text.slice(11, 19)];
  };

  // Adds the time of the reader's zone to the times in the page, which are in UTC.
  const localTimes = () => {
    const local = (element) => {
      const date = new Date(element.dateTime);
      const [day, time] = inZone(date, LOCAL);
      return LOCAL.offsetMs(date) && `${day} ${time}${element.dateTime.slice(19, -1)} ${LOCAL.name(date)}`;
    };
    for (const element of document.querySelectorAll("td time")) {
      const text = local(element);
      if (text) element.title = text;
    }
    const period = document.getElementById("period");
    if (!period) return;
    const [from, to] = [...period.querySelectorAll("time")].map(local);
    if (!from) return;
    const note = document.createElement("small");
    note.textContent = ` (in your time zone: ${from.replace(/\.\d+/, "")} to ${to.replace(/\.\d+/, "")})`;
    period.append(note);
  };

  // Number of decimals of a second in which a step is visible.
  const decimals = (stepNs) => Math.max(0, Math.ceil(9 - Math.log10(stepNs) - 1e-9));

  // Steps of an axis above a second, in seconds.
  const LONG_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

  // Returns a clock for an axis that starts at `start`: seconds since 1970, and ns of that second.
  const wallClock = (start, zone) => {
    const startDate = new Date(start[0] * 1000);
    const split = (ns) => {
      const total = start[1] + ns;
      const date = new Date((start[0] + Math.floor(total / 1e9)) * 1000);
      return [date, String(Math.floor(total % 1e9)).padStart(9, "0")];
    };
    const text = (ns, stepNs) => {
      const [date, fraction] = split(ns);
      const digits = decimals(stepNs);
      return inZone(date, zone)[1] + (digits ? `.${fraction.slice(0, digits)}` : "");
    };
    return {
      title: () => `${inZone(startDate, zone)[0]}, ${zone.name(startDate)}`,
      text: (ns, stepNs) => `${text(ns, stepNs)} ${zone.name(startDate)}`,
      label: (ns, stepNs) => {
        if (stepNs >= 86400e9) return inZone(split(ns)[0], zone)[0];
        return stepNs >= 60e9 ? text(ns, stepNs).slice(0, 5) : text(ns, stepNs);
      },
      step: (minNs) => {
        if (minNs <= 1e9) return roundStep(minNs);
        const step = LONG_STEPS.find((it) => it * 1e9 >= minNs);
        return step ? step * 1e9 : 86400e9 * roundStep(minNs / 86400e9);
      },
      // The first time at which a multiple of the step is reached.
      first: (stepNs) => {
        const seconds = start[0] + zone.offsetMs(startDate) / 1000;
        const phase = stepNs < 1e9 ? start[1] % stepNs : (seconds % (stepNs / 1e9)) * 1e9 + start[1];
        return (stepNs - phase) % stepNs;
      },
    };
  };

  const START_CLOCK = {
    title: () => "from the start",
    text: (ns) => `${time(ns)} from the start`,
    label: (ns) => (ns ? time(ns) : "0"),
    step: (minNs) => roundStep(minNs),
    first: () => 0,
  };

  // Returns the clocks that the reader can choose from, with their names.
  const clocksFor = (start) => {
    if (!start) return [["from the start", START_CLOCK]];
    const date = new Date(start[0] * 1000);
    const clocks = [["in UTC", wallClock(start, UTC)]];
    if (LOCAL.offsetMs(date)) clocks.push([`in ${LOCAL.name(date)} (local)`, wallClock(start, LOCAL)]);
    return [...clocks, ["from the start", START_CLOCK]];
  };

  // ---- the timeline

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
      let step = clock().step(shownNs / 8);
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

  // ---- the histograms

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
      const summary = ` ${plural(histogram.count, "exit")}, median ${time(histogram.p50_ns)}, p99 ${time(histogram.p99_ns)}`;
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

  // ---- the tables. Each row is a tbody, which may have further lines about the row.

  const value = (row, column) => {
    const cell = row.rows[0].cells[column];
    return cell.dataset.v === undefined ? cell.textContent.toLowerCase() : Number(cell.dataset.v);
  };

  const sort = (table, key, direction) => {
    const headings = [...table.tHead.rows[0].cells];
    const column = headings.findIndex((heading) => heading.dataset.key === key);
    if (column < 0) return false;
    const rows = [...table.tBodies];
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = rows.map((row) => [value(row, column), row]);
    keyed.sort(([a], [b]) => sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true })));
    table.append(...keyed.map(([, row]) => row));
    headings.forEach((heading) => heading.removeAttribute("aria-sort"));
    headings[column].setAttribute("aria-sort", direction);
    return true;
  };

  const tables = () => {
    for (const table of document.querySelectorAll("table.sortable")) {
      table.tHead.addEventListener("click", (event) => {
        const heading = event.target.closest("button")?.closest("th");
        if (!heading) return;
        const current = heading.getAttribute("aria-sort");
        // The first click sorts numbers in descending order and names in ascending order.
        const first = heading.classList.contains("n") ? "descending" : "ascending";
        const second = first === "descending" ? "ascending" : "descending";
        sort(table, heading.dataset.key, current === first ? second : first);
      });
    }
    for (const input of document.querySelectorAll("input[data-filter]")) {
      const table = document.getElementById(input.dataset.filter);
      const shown = document.getElementById(`${input.dataset.filter}-shown`);
      input.addEventListener("input", () => {
        const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
        let count = 0;
        const rows = [...table.tBodies];
        for (const row of rows) {
          // Search only in names, so that digits match a PID and not part of a duration.
          const names = [...row.querySelectorAll("td:not(.n)")];
          const text = names.map((cell) => cell.textContent).join(" ").toLowerCase();
          row.hidden = !words.every((word) => text.includes(word));
          count += row.hidden ? 0 : 1;
        }
        shown.textContent = words.length ? `${count} of ${plural(rows.length, "row")}` : "";
      });
    }
  };

  // Applies the fragment of the page's address to the table of exits: #sort=count sorts in descending order,
  // #sort=-count in ascending order; #filter=hlt filters.
  const applyFragment = () => {
    const parameters = new URLSearchParams(location.hash.slice(1));
    const table = document.getElementById("exits");
    const key = parameters.get("sort");
    if (table && key) sort(table, key.replace(/^-/, ""), key.startsWith("-") ? "ascending" : "descending");
    const filter = parameters.get("filter");
    const input = document.querySelector("input[data-filter=exits]");
    if (input && filter !== null) {
      input.value = filter;
      input.dispatchEvent(new Event("input"));
    }
  };

  const reportError = (error) => document.body.setAttribute("data-error", String(error));
  addEventListener("error", (event) => reportError(event.message));
  try {
    const it = data();
    localTimes();
    timeline(it);
    histograms(it);
    tables();
    applyFragment();
    addEventListener("hashchange", applyFragment);
    document.body.setAttribute("data-ready", "");
  } catch (error) {
    reportError(error.stack || error);
  }
})();

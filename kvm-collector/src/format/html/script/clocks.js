// Dates and times of day, in UTC and in the time zone of the reader.

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

// Pieces of SVG, numbers and units. All text is set as text or as an attribute, and never becomes markup.

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

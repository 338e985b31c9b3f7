// What is billed: a month's 95th percentiles beside what is agreed, and the samples that they are of.

import { draw, legend } from "./chart.js";
import { FORMATS, Refused, rows, short, span } from "./figures.js";
import { billsGrid } from "./grids.js";
import { element, redraw, table } from "./table.js";

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "UTC";
const HISTORY_OF = { account: "account", carrier: "interface" };
const FEWEST = 3600;

const pad = (number) => String(number).padStart(2, "0");
const named = (date) => `${date.getFullYear()}-${pad(date.getMonth() + 1)}`;
const first = (month) => new Date(Number(month.slice(0, 4)), Number(month.slice(5)) - 1, 1);
const seconds = (date) => Math.round(date.getTime() / 1000);

// What is looked at: a month, of it one account or carrier, and of the month a part, in seconds since 1970.
const bills = { month: null, tables: null, chosen: null, from: null, to: null, samples: null, said: null, asked: 0 };

const month = () => bills.month ?? named(new Date());

// When the month begins and ends; this one ends now.
function whole() {
  const begin = first(month());
  const end = new Date(begin.getFullYear(), begin.getMonth() + 1, 1);
  return [seconds(begin), Math.min(seconds(end), Math.ceil(Date.now() / 1000))];
}

async function refusable(path) {
  try {
    return (await rows(path)).rows;
  } catch (error) {
    return error instanceof Refused ? error.message : "the controller does not answer";
  }
}

export async function readBills() {
  const asked = (bills.asked += 1);
  const found = {};
  for (const by of Object.keys(HISTORY_OF)) {
    found[by] = await refusable(`v1/report/p95?by=${by}&month=${month()}&time_zone=${encodeURIComponent(zone)}`);
    if (asked !== bills.asked) return;
  }
  bills.tables = found;
  // Whoever comes to see one thing is not made to choose it.
  const gone = () => !Array.isArray(found[bills.chosen?.by]) || !found[bills.chosen.by].some((row) => row.name === bills.chosen.name);
  if (gone()) {
    const by = Object.keys(found).find((one) => Array.isArray(found[one]) && found[one].length);
    bills.chosen = by ? { by, name: [...found[by]].sort((a, b) => b.p95 - a.p95)[0].name } : null;
  }
  await readSamples(asked);
}

async function readSamples(asked) {
  if (bills.chosen) {
    const [begin, end] = whole();
    const [from, to] = [bills.from ?? begin, bills.to ?? end];
    const { by, name } = bills.chosen;
    const found = await refusable(`v1/history?of=${HISTORY_OF[by]}&name=${encodeURIComponent(name)}&from=${from}&to=${to}&points=600`);
    if (asked !== bills.asked) return;
    bills.samples = Array.isArray(found) ? { from, to, rows: found } : null;
    bills.said = Array.isArray(found) ? null : found;
  }
  redraw.now();
}

function choose(change) {
  Object.assign(bills, change);
  bills.asked += 1;
  return readSamples(bills.asked);
}

function chooseMonth(change) {
  Object.assign(bills, change, { from: null, to: null, tables: null, samples: null });
  redraw.now();
  readBills();
}

// Of each part of the time the largest sample: so the lines are of the same samples as what is billed.
function points(key) {
  const { from, to } = bills.samples;
  const step = Math.max((to - from) / 600, 1);
  const list = [];
  let end = null;
  for (const row of bills.samples.rows) {
    const length = row.milliseconds / 1000;
    if (end !== null && row.time - end > Math.max(step, length / Math.max(row.samples, 1)) * 0.5) list.push([end, null]);
    list.push([row.time + length / 2, row[key] === null ? null : row[key] * 8]);
    end = row.time + length;
  }
  return list;
}

function chart(row, drawLater) {
  const { from, to } = bills.samples;
  const series = [
    { name: "in bit/s", points: points("in_bytes_per_second_most") }, { name: "out bit/s", points: points("out_bytes_per_second_most") },
  ];
  const highest = series.flatMap((one) => one.points).reduce((most, [, value]) => Math.max(most, value ?? 0), row.p95);
  const marks = [
    { name: `p95 in ${short(row.p95_in)}`, value: row.p95_in, kind: "s0" }, { name: `p95 out ${short(row.p95_out)}`, value: row.p95_out, kind: "s1" },
  ];
  // A commit far above everything would press the curves flat.
  const near = row.commit !== null && row.commit <= 5 * Math.max(highest, 1);
  if (near) marks.push({ name: `commit ${short(row.commit)}`, value: row.commit, kind: "commit" });
  const drawn = { label: `${row.by} ${row.name}, ${row.period}: bits each second, in and out, 95th percentiles and commit`, format: short, series, marks, from, to };
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "chart");
  const zoom = (begin, end) => choose({ from: Math.round(begin), to: Math.round(Math.max(end, begin + FEWEST)) });
  drawLater.push(() => draw(svg, drawn, zoom));
  const [begin, end] = whole();
  const length = to - from;
  const move = (id, label, change) => element("button", { type: "button", id, onclick: () => choose(change()) }, label);
  const within = (start, size) => {
    const place = Math.min(Math.max(start, begin), Math.max(end - size, begin));
    return { from: Math.round(place), to: Math.round(Math.min(place + size, end)) };
  };
  const note = row.commit !== null && !near ? ` The commit, ${short(row.commit)} bit/s, is far above it.` : "";
  return element("section", { id: "bill" }, element("h2", {}, `${row.name}: ${row.period}`), svg, legend(drawn),
    element("div", { class: "controls" },
      move("bill-whole", "Whole month", () => ({ from: null, to: null })),
      move("bill-closer", "Closer", () => within(from + length / 4, Math.max(length / 2, FEWEST))),
      move("bill-wider", "Wider", () => within(from - length / 2, Math.min(length * 2, end - begin))),
      move("bill-earlier", "Earlier", () => within(from - length / 2, length)),
      move("bill-later", "Later", () => within(from + length / 2, length))),
    element("p", { class: "quiet" }, `Draw over a part to look closer. Each point is the largest sample of its time.${note}`));
}

function about(found) {
  const row = Object.values(found).find((list) => Array.isArray(list) && list.length)?.[0];
  if (!row) return null;
  const words = [`${row.period} (${row.time_zone}): ${FORMATS.count(row.samples)} of ${FORMATS.count(row.expected)} samples of five minutes`];
  if (row.gaps) words.push(`${span(row.gap_seconds)} without samples, which do not count as nought`);
  if (row.averaged) words.push(`${FORMATS.count(row.averaged)} share a mean: nobody looked in between`);
  return element("p", { class: "quiet", id: "bills-about" }, `${words.join("; ")}.`);
}

export function billsParts(drawLater) {
  const now = named(new Date());
  const step = (by) => {
    const begin = first(month());
    return named(new Date(begin.getFullYear(), begin.getMonth() + by, 1));
  };
  const button = (id, label, to, off) => element("button", { type: "button", id, disabled: off, onclick: () => chooseMonth({ month: to === now ? null : to }) }, label);
  const controls = element("div", { class: "controls" },
    element("strong", {}, first(month()).toLocaleDateString("en-GB", { month: "long", year: "numeric" })),
    button("bills-before", "Month before", step(-1), false), button("bills-behind", "Month behind", step(1), month() >= now),
    button("bills-now", "This month", now, month() === now));
  const title = element("h2", {}, "Bills");
  const found = bills.tables;
  if (!found) return [title, controls, element("p", { class: "quiet" }, "reading...")];
  const parts = [title, controls, about(found)];
  const why = Object.values(found);
  // A month without samples is said once, not for each table.
  if (why.every((one) => typeof one === "string") && new Set(why).size === 1) return [...parts, element("p", { class: "quiet" }, why[0])];
  const row = bills.chosen && Array.isArray(found[bills.chosen.by]) ? found[bills.chosen.by].find((one) => one.name === bills.chosen.name) : null;
  if (row && bills.samples) parts.push(chart(row, drawLater));
  else if (bills.said) parts.push(element("p", { class: "quiet" }, bills.said));
  for (const by of Object.keys(HISTORY_OF)) {
    parts.push(table(billsGrid(by, found[by], (name) => {
      choose({ chosen: { by, name } }).then(() => document.getElementById("bill")?.scrollIntoView({ block: "nearest" }));
    })));
  }
  return parts;
}

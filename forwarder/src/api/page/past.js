// The past of one thing: a curve that can be looked at more closely, and what it came to.

import { draw, legend } from "./chart.js";
import { FORMATS, Refused, rows, short, spaced } from "./figures.js";
import { element, redraw } from "./table.js";

const DAY = 86400;
const OF = { interface: "interface", forwarded: "interface (fast path)", prefix: "prefix", "origin-as": "origin AS", "neighbour-as": "neighbour AS", rule: "rule", account: "account (over the edge)", "account-pair": "from account to account" };
const LINKS = ["interface", "forwarded", "account"];
const SPANS = { "6 hours": DAY / 4, day: DAY, week: 7 * DAY, month: 30 * DAY, year: 365 * DAY };

// What is looked at; `to` is null where it is now.
const past = { of: "interface", name: "", names: [], span: DAY, to: null, rows: null, said: "reading...", asked: 0 };

export async function readPast() {
  const asked = (past.asked += 1);
  const mine = () => asked === past.asked;
  try {
    const names = await rows(`v1/history/names?of=${past.of}`);
    if (!mine()) return;
    past.names = names.rows.map((row) => row.name);
    if (!past.name && past.names.length) past.name = past.names[0];
    if (!past.name) throw new Refused(`nothing of this kind has a history yet`, 404);
    const to = past.to ?? Math.ceil(Date.now() / 1000);
    const from = to - past.span;
    const answer = await rows(`v1/history?of=${past.of}&name=${encodeURIComponent(past.name)}&from=${from}&to=${to}&points=600`);
    if (!mine()) return;
    Object.assign(past, { rows: answer.rows, from, until: to, said: answer.rows.length ? null : "nothing was watched then" });
  } catch (error) {
    if (!mine()) return;
    Object.assign(past, { rows: null, said: error instanceof Refused ? error.message : "the controller does not answer" });
  }
  redraw.now();
}

function choose(change) {
  Object.assign(past, change);
  readPast();
}

// Points of one direction in bits each second; where nothing was watched there is a gap.
function points(key) {
  const list = [];
  let end = null;
  const step = past.span / 600;
  for (const row of past.rows) {
    const seconds = row.milliseconds / 1000;
    if (end !== null && row.time - end > Math.max(step, seconds / Math.max(row.samples, 1)) * 0.5) list.push([end, null]);
    list.push([row.time + seconds / 2, row[key] === null ? null : (row[key] * 8) / seconds]);
    end = row.time + Math.max(seconds, 0);
  }
  return list;
}

export function historyParts(drawLater) {
  const of = element("select", { id: "past-of", onchange: (event) => choose({ of: event.target.value, name: "", to: null }) },
    ...Object.entries(OF).map(([value, name]) => element("option", { value, selected: value === past.of }, name)));
  const name = element("input", { id: "past-name", list: "past-names", value: past.name, autocomplete: "off", onchange: (event) => choose({ name: event.target.value.trim() }) });
  const names = element("datalist", { id: "past-names" }, ...past.names.slice(0, 1000).map((value) => element("option", { value })));
  const spans = Object.entries(SPANS).map(([label, span]) => element("button", {
    type: "button", id: `past-${label.replace(" ", "-")}`, "aria-pressed": String(past.to === null && past.span === span), onclick: () => choose({ span, to: null }),
  }, label));
  const move = (id, label, change) => element("button", { type: "button", id, onclick: () => choose(change()) }, label);
  const until = () => past.to ?? Math.ceil(Date.now() / 1000);
  const controls = element("div", { class: "controls" },
    element("label", { for: "past-of" }, "History of"), of, element("label", { for: "past-name" }, "called"), name, names, ...spans,
    move("past-earlier", "Earlier", () => ({ to: until() - past.span / 2 })), move("past-later", "Later", () => ({ to: until() + past.span / 2 })),
    move("past-wider", "Wider", () => ({ to: past.to === null ? null : past.to + past.span / 2, span: past.span * 2 })),
    move("past-closer", "Closer", () => ({ to: past.to === null ? null : past.to - past.span / 4, span: Math.max(past.span / 2, 600) })));
  const title = element("h2", {}, "History");
  if (past.said) return [title, controls, element("p", { class: "quiet" }, past.said)];
  const directed = past.rows.some((row) => row.in_bytes !== null);
  const series = [];
  if (directed) series.push({ name: LINKS.includes(past.of) ? "in bit/s" : "from it, bit/s", points: points("in_bytes") });
  series.push({ name: directed ? (LINKS.includes(past.of) ? "out bit/s" : "to it, bit/s") : "bit/s", points: points("out_bytes") });
  const chart = { label: `${OF[past.of]} ${past.name}, bits each second`, format: short, series, from: past.from, to: past.until };
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "chart");
  drawLater.push(() => draw(svg, chart, (from, to) => choose({ span: Math.max(Math.round(to - from), 600), to: Math.round(to) })));
  const total = (key) => past.rows.reduce((sum, row) => sum + (row[key] ?? 0), 0);
  const most = (key) => past.rows.reduce((best, row) => Math.max(best, row[key] ?? 0), 0);
  const seconds = total("milliseconds") / 1000;
  const list = [];
  if (directed) list.push(["mean in", `${spaced(FORMATS.bits(total("in_bytes") / seconds))}bit/s`], ["most in", `${spaced(FORMATS.bits(most("in_bytes_per_second_most")))}bit/s`]);
  list.push([directed ? "mean out" : "mean", `${spaced(FORMATS.bits(total("out_bytes") / seconds))}bit/s`],
    [directed ? "most out" : "most", `${spaced(FORMATS.bits(most("out_bytes_per_second_most")))}bit/s`],
    ["samples", FORMATS.count(total("samples"))], ["watched", FORMATS.share(Math.min(seconds / (past.until - past.from), 1))]);
  return [title, controls, element("section", { id: "past" }, svg, legend(chart)),
    element("p", { class: "quiet" }, "Draw over a part to look closer. A gap is time in which nobody watched; the most is that of one sample."),
    element("dl", { class: "tiles" }, ...list.map(([label, value]) => element("div", {}, element("dt", {}, label), element("dd", {}, value))))];
}

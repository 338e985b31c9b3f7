// The page: what is shown, when it is asked for, and what a person does.

import { billsParts, readBills } from "./bills.js";
import { draw, legend } from "./chart.js";
import { FORMATS, Refused, part, plus, rows, short, spaced, span } from "./figures.js";
import {
  accountsGrid, countsGrid, feedsGrid, interfaces, limitsGrid, linksGrid, nextHopsGrid, reasonsGrid, rulesGrid, topGrid,
} from "./grids.js";
import { historyParts, readPast } from "./past.js";
import { element, redraw, table } from "./table.js";

// ---- views ----

const TOP_NOW = 8;
const ASK = {
  status: "v1/status",
  interfaces: "v1/interfaces",
  drops: "v1/drops",
  nextHops: "v1/counters?by=next-hop&all=true",
  rules: "v1/filter",
  limits: "v1/limits",
  accounts: "v1/counters?by=account",
  "top prefix": "v1/top?by=prefix&top=200",
  "top origin-as": "v1/top?by=origin-as&top=200",
  "top neighbour-as": "v1/top?by=neighbour-as&top=200",
};

const VIEWS = {
  now: {
    title: "Now", asks: ["drops", "top prefix"],
    parts: (before, now) => [tiles(before, now), curve(), table(linksGrid(interfaces(before, now))),
      table(topGrid(now, "prefix", "Prefixes", look, TOP_NOW)), table(reasonsGrid(before, now, TOP_NOW)), table(feedsGrid(now))],
  },
  links: {
    title: "Links", asks: ["nextHops"],
    parts: (before, now) => [table(linksGrid(interfaces(before, now))), table(countsGrid(now)), table(nextHopsGrid(before, now))],
  },
  prefixes: { title: "Prefixes", asks: ["top prefix"], parts: (before, now) => [detail(), table(topGrid(now, "prefix", "Prefixes", look))] },
  networks: {
    title: "Networks", asks: ["top origin-as", "top neighbour-as"],
    parts: (before, now) => [table(topGrid(now, "origin-as", "Where traffic goes")), table(topGrid(now, "neighbour-as", "By whom"))],
  },
  accounts: { title: "Accounts", asks: ["accounts"], parts: (before, now) => [table(accountsGrid(before, now))] },
  bills: { title: "Bills", asks: [], still: true, parts: () => billsParts(drawLater) },
  reasons: { title: "Reasons", asks: ["drops", "limits"], parts: (before, now) => [table(reasonsGrid(before, now)), table(limitsGrid(now))] },
  rules: { title: "Rules", asks: ["rules"], parts: (before, now) => [table(rulesGrid(before, now))] },
  history: { title: "History", asks: [], still: true, parts: () => historyParts(drawLater) },
};

function tiles(before, now) {
  const status = now.status.rows[0];
  const links = interfaces(before, now);
  const sum = (key) => links.map((row) => row[key]).filter((one) => one !== null).reduce((a, b) => (a ?? 0) + b, null);
  const fast = sum("fastPackets");
  const say = (kind, value, unit = "") => (value === null ? "-" : spaced(FORMATS[kind](value)) + unit);
  const open = status.ingress_residue + status.egress_residue;
  const list = [
    ["in", say("bits", sum("octetsIn"), "bit/s")],
    ["packets", say("packets", sum("packetsIn"), "pps")],
    ["fast path", say("share", part(fast, plus(fast, sum("passed"))))],
    ["dropped", say("packets", sum("dropped"), "pps")],
    ["lost", say("packets", sum("lost"), "pps")],
    ["prefixes", FORMATS.count(status.prefixes_ipv4 + status.prefixes_ipv6)],
    ["sums", open === 0 ? "closed" : `${FORMATS.count(open)} open`],
  ];
  return element("dl", { class: "tiles" }, ...list.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

// What came in and went out since the page was opened.
const KEPT = 600;
const kept = [];

function keep(before, now) {
  const links = interfaces(before, now);
  const sum = (key) => links.map((row) => row[key]).filter((one) => one !== null).reduce((a, b) => (a ?? 0) + b, null);
  kept.push([Date.now() / 1000, sum("octetsIn"), sum("octetsOut")]);
  if (kept.length > KEPT) kept.shift();
}

function curve() {
  const chart = {
    label: "In and out of all links, bits each second, since this page was opened", format: short,
    series: [
      { name: "in bit/s", points: kept.map(([at, into]) => [at, into === null ? null : into * 8]) },
      { name: "out bit/s", points: kept.map(([at, , out]) => [at, out === null ? null : out * 8]) },
    ],
  };
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "chart");
  drawLater.push(() => draw(svg, chart));
  return element("section", { id: "curve" }, element("h2", {}, "Since this page was opened"), svg, legend(chart));
}

// Charts are drawn when they are in the document and have a width.
let drawLater = [];

// ---- one prefix ----

let looked = null;

async function look(prefix) {
  const scroll = () => document.getElementById("detail")?.focus();
  looked = { prefix, text: "reading..." };
  if (view() !== "prefixes") location.hash = "#prefixes";
  show();
  try {
    const name = encodeURIComponent(prefix);
    const [routes, candidates] = [await rows(`v1/routes?prefix=${name}&limit=1`), await rows(`v1/candidates?prefix=${name}`)];
    looked = { prefix, routes: routes.rows.filter((row) => row.prefix === prefix), candidates: candidates.rows };
  } catch (error) {
    looked = { prefix, text: error.message };
  }
  show();
  scroll();
}

function detail() {
  if (!looked) return null;
  const box = element("section", { id: "detail", class: "detail", tabindex: -1 }, element("h2", {}, looked.prefix));
  const close = element("button", {
    type: "button", id: "close-detail",
    onclick: () => {
      looked = null;
      show();
    },
  }, "Close");
  if (looked.text) {
    box.append(element("p", {}, looked.text), close);
    return box;
  }
  if (looked.routes.length === 0) box.append(element("p", {}, "It is not in the table any more."));
  for (const row of looked.routes) {
    const way = row.via ? `via ${row.via} dev ${row.ifname}` : "no next hop";
    const counted = row.packets === null ? "" : `; ${FORMATS.count(row.packets)} packets, ${FORMATS.count(row.bytes)} octets`;
    box.append(element("p", {}, `${way}: ${row.state}${row.on_backup ? " (backup)" : ""}, by ${row.protocol}${counted}`));
  }
  for (const row of looked.candidates) {
    const from = row.peer ? `${row.by} ${row.peer}` : row.by;
    const known = [
      row.as_path === null ? null : `AS path ${row.as_path || "empty"}`, row.local_pref === null ? null : `LOCAL_PREF ${row.local_pref}`,
      row.med === null ? null : `MED ${row.med}`, row.communities ? `communities ${row.communities}` : null,
    ].filter((word) => word);
    box.append(element("p", {},
      element("strong", {}, `${row.best ? "* " : ""}${from}: ${row.next_hops}`),
      row.resolved && row.resolved !== row.next_hops ? ` -> ${row.resolved}` : "", `. ${row.why}. ${known.join(", ")}`));
  }
  box.append(close);
  return box;
}

// ---- going on ----

let before = null;
let now = null;
let hasAccounts = false;
let paused = false;
let trouble = null;

const view = () => (VIEWS[location.hash.slice(1)] ? location.hash.slice(1) : "now");

// Writes what is known. Whoever types or stands somewhere stays there.
function show() {
  const held = document.activeElement?.id;
  const place = document.activeElement?.selectionStart;
  const scrolled = [...document.querySelectorAll("#view .scroll")].map((box) => box.scrollLeft);
  const name = view();
  document.title = `forwarder: ${VIEWS[name].title.toLowerCase()}`;
  const told = Object.entries(VIEWS).filter(([key]) => key !== "accounts" || hasAccounts || name === "accounts");
  const links = told.map(([key, { title }]) =>
    element("a", { href: `#${key}`, id: `to-${key}`, "aria-current": key === name ? "page" : null }, title));
  document.getElementById("views").replaceChildren(...links);
  health();
  if (VIEWS[name].still || (now && VIEWS[name].asks.every((ask) => now[ask]))) {
    drawLater = [];
    const parts = VIEWS[name].parts(before, now).filter((made) => made);
    document.getElementById("view").replaceChildren(...parts);
    for (const later of drawLater) later();
  } else {
    document.getElementById("view").replaceChildren(element("p", { class: "quiet" }, trouble ?? "reading..."));
  }
  [...document.querySelectorAll("#view .scroll")].forEach((box, index) => {
    box.scrollLeft = scrolled[index] ?? 0;
  });
  const again = held ? document.getElementById(held) : null;
  if (again && document.activeElement !== again) {
    again.focus({ preventScroll: true });
    if (place !== null && place !== undefined && again.setSelectionRange) again.setSelectionRange(place, place);
  }
}

function health() {
  const status = now?.status.rows[0];
  const line = document.getElementById("health");
  const words = [];
  if (status) words.push(`version ${status.version}, up ${span(status.uptime ?? 0)}, ${FORMATS.count(status.prefixes_ipv4)} IPv4 + ${FORMATS.count(status.prefixes_ipv6)} IPv6 prefixes`);
  if (paused) words.push("paused");
  if (trouble) words.push(`no newer figures: ${trouble}`);
  const said = words.join("; ") || "reading...";
  if (line.textContent !== said) line.textContent = said;
  line.className = trouble ? "bad" : "";
  const list = document.getElementById("problems");
  const problems = status?.problems ?? [];
  const shown = [...list.children].map((item) => item.textContent);
  if (problems.join("\n") !== shown.join("\n")) list.replaceChildren(...problems.map((problem) => element("li", {}, problem)));
  list.hidden = problems.length === 0;
}

// One question at a time: a controller is not flooded by those who watch it.
async function read() {
  const reading = {};
  for (const ask of ["status", "interfaces", ...VIEWS[view()].asks]) {
    try {
      reading[ask] = await rows(ASK[ask]);
    } catch (error) {
      // One that is not told here leaves the others; one that is too busy is asked again.
      if (!(error instanceof Refused) || error.status === 503) throw error;
      reading[ask] = { at: 0, rows: [], refused: error.message };
    }
  }
  return reading;
}

// What is of the past is read when somebody comes to see it.
function readStill() {
  if (view() === "history") readPast();
  if (view() === "bills") readBills();
}

const interval = () => Number(document.getElementById("interval").value) * 1000;

// Nothing moves under a finger that is down, or a text that is being copied.
let pressed = false;
const held = () => pressed || !document.getSelection().isCollapsed;
document.addEventListener("pointerdown", () => {
  pressed = true;
});
for (const end of ["pointerup", "pointercancel"]) {
  document.addEventListener(end, () => {
    pressed = false;
  });
}

let timer = null;
let reading = false;

async function tick() {
  clearTimeout(timer);
  if (reading) return;
  reading = true;
  try {
    if (!paused && !document.hidden) {
      const next = await read();
      before = now;
      now = next;
      trouble = null;
      if (before) keep(before, now);
      // What is of the past does not change under whoever looks at it.
      if (VIEWS[view()].still) health();
      else if (!held()) show();
    }
  } catch (error) {
    trouble = error instanceof Refused ? error.message : "the controller does not answer";
    show();
  }
  reading = false;
  timer = setTimeout(tick, interval());
}

document.getElementById("pause").addEventListener("click", (event) => {
  paused = !paused;
  event.target.setAttribute("aria-pressed", String(paused));
  event.target.textContent = paused ? "Go on" : "Pause";
  health();
  if (!paused) tick();
});
document.getElementById("interval").addEventListener("change", tick);
document.addEventListener("visibilitychange", () => document.hidden || tick());
window.addEventListener("resize", () => now && show());
window.addEventListener("hashchange", () => {
  readStill();
  show();
  tick();
});
redraw.now = show;
show();
// Where there are no accounts the API says so, and there is no view of them.
rows(ASK.accounts).then(() => {
  hasAccounts = true;
  show();
}, () => {});
readStill();
tick();

// Lines over time, as SVG. Points are [seconds since 1970, value or null]; null is a gap, and a gap stays one.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 240;
const LEFT = 56;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 24;

function element(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Steps of 1, 2 or 5 times a power of ten: at most `most` of them up to `top`.
export function steps(top, most) {
  const rough = top / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const all = [];
  for (let at = 0; at <= top * 1.0001; at += step) all.push(at);
  return all;
}

const SPANS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];

function clock(seconds, span) {
  const date = new Date(seconds * 1000);
  const options = span > 172800 ? { month: "short", day: "numeric" }
    : span > 600 ? { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }
      : { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  return date.toLocaleString("en-GB", options);
}

// Draws into an <svg class="chart">. `chart`: { label, series: [{ name, points }], marks: [{ name, value, kind }], format, from, to }.
// `zoom(from, to)`, where given, is called when somebody has drawn a span with a pointer.
export function draw(svg, chart, zoom) {
  const width = Math.max(svg.clientWidth || 600, 200);
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", chart.label);
  const points = chart.series.flatMap((series) => series.points);
  const from = chart.from ?? Math.min(...points.map(([at]) => at));
  const to = chart.to ?? Math.max(...points.map(([at]) => at));
  const values = points.map(([, value]) => value ?? 0).concat((chart.marks ?? []).map((mark) => mark.value));
  const top = Math.max(...values, 0) || 1;
  const x = (at) => LEFT + (to > from ? (at - from) / (to - from) : 0) * (width - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - (value / (top * 1.05)) * (HEIGHT - BOTTOM - TOP);
  const parts = [];
  for (const at of steps(top, 5)) {
    parts.push(element("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(at), y2: y(at) }));
    const text = element("text", { x: LEFT - 6, y: y(at) + 4, "text-anchor": "end" });
    text.textContent = chart.format(at);
    parts.push(text);
  }
  if (to > from) {
    const room = Math.max(Math.floor((width - LEFT) / 110), 1);
    const step = SPANS.find((span) => (to - from) / span <= room) ?? 2592000;
    // Steps of local time, so that a day begins where people's do.
    const offset = new Date(from * 1000).getTimezoneOffset() * 60;
    for (let at = Math.ceil((from - offset) / step) * step + offset; at <= to; at += step) {
      const text = element("text", { x: x(at), y: HEIGHT - 7, "text-anchor": "middle" });
      text.textContent = clock(at, to - from);
      if (x(at) > LEFT + 20 && x(at) < width - 30) parts.push(text);
    }
  }
  chart.series.forEach((series, index) => {
    let path = "";
    let pen = false;
    for (const [at, value] of series.points) {
      if (value === null || value === undefined) {
        pen = false;
        continue;
      }
      const place = `${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
      // A point that stands alone is a dot.
      path += pen ? `L${place}` : `M${place}h0.1`;
      pen = true;
    }
    if (path) parts.push(element("path", { class: `series s${index}`, d: path }));
  });
  // Names stand above their lines, the lowest first; what would stand in another is moved up, or at the top down, beside it.
  let above = HEIGHT;
  for (const mark of [...(chart.marks ?? [])].sort((a, b) => a.value - b.value)) {
    parts.push(element("line", { class: `mark ${mark.kind ?? ""}`, x1: LEFT, x2: width - RIGHT, y1: y(mark.value), y2: y(mark.value) }));
    const place = Math.min(y(mark.value) - 4, above - 14);
    const aside = place < TOP + 4;
    const text = element("text", { class: "name", x: aside ? LEFT + 6 : width - RIGHT - 4, y: aside ? y(mark.value) + 14 : place, "text-anchor": aside ? "start" : "end" });
    text.textContent = mark.name;
    parts.push(text);
    if (!aside) above = place;
  }
  svg.replaceChildren(...parts);
  if (zoom) choose(svg, width, (place) => from + ((place - LEFT) / (width - LEFT - RIGHT)) * (to - from), zoom);
}

// A span is drawn with the pointer; one that is too short to be meant is none.
function choose(svg, width, time, zoom) {
  let start = null;
  let chosen = null;
  const place = (event) => {
    const box = svg.getBoundingClientRect();
    return Math.min(Math.max(((event.clientX - box.left) / box.width) * width, LEFT), width - RIGHT);
  };
  svg.onpointerdown = (event) => {
    start = place(event);
    chosen = element("rect", { class: "chosen", x: start, y: TOP, width: 0, height: HEIGHT - TOP - BOTTOM });
    svg.append(chosen);
    svg.setPointerCapture(event.pointerId);
  };
  svg.onpointermove = (event) => {
    if (start === null) return;
    const at = place(event);
    chosen.setAttribute("x", Math.min(start, at));
    chosen.setAttribute("width", Math.abs(at - start));
  };
  svg.onpointercancel = () => {
    chosen?.remove();
    start = null;
  };
  svg.onpointerup = (event) => {
    if (start === null) return;
    const [a, b] = [start, place(event)].sort((one, other) => one - other);
    chosen.remove();
    start = null;
    if (b - a > 8) zoom(time(a), time(b));
  };
}

// What each line is, for those who cannot tell colours apart, too.
export function legend(chart) {
  const list = document.createElement("ul");
  list.className = "legend";
  chart.series.forEach((series, index) => {
    const item = document.createElement("li");
    const line = element("line", { class: `series s${index}`, x1: 0, x2: 30, y1: 5, y2: 5 });
    const svg = element("svg", { class: "chart", viewBox: "0 0 30 10", "aria-hidden": "true" }, line);
    const values = series.points.map(([, value]) => value).filter((value) => value !== null && value !== undefined);
    const most = values.length ? `, most ${chart.format(Math.max(...values))}` : "";
    item.append(svg, `${series.name}${most}`);
    list.append(item);
  });
  return list;
}

// Elements and tables. Words of rows come from routers and neighbours anywhere: they reach the document as text and never as markup.

import { FORMATS } from "./figures.js";

// Whoever shows tables shows them anew when they are sorted or filtered.
export const redraw = { now: () => {} };

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const sorts = {};
const filters = {};

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

// A cell: the figure itself stands in <data>, for programs and for whoever points at it.
function cell(column, value, row) {
  if (column.kind === "text") {
    if (value !== null && value !== undefined && column.closer) {
      const name = String(value);
      // With an id, so that whoever stands on it stays there when the table is written anew.
      const id = `${column.of ?? column.key}: ${name}`;
      return element("td", {}, element("button", { type: "button", id, class: "closer", onclick: () => column.closer(name) }, name));
    }
    const classes = [column.words ? "words" : "", column.roomy ? "roomy" : ""].join(" ").trim();
    return element("td", { class: classes || null }, value === null || value === undefined || value === "" ? "-" : String(value));
  }
  const classes = ["figure"];
  if (column.roomy) classes.push("roomy");
  if (value === null || value === undefined) return element("td", { class: classes.join(" ") }, "-");
  if (column.kind === "lost" && value > 0) classes.push("bad");
  const data = element("data", { value, title: column.kind === "share" || column.kind === "load" ? null : `${Math.round(value).toLocaleString("en-US")}${column.unit ?? ""}` }, FORMATS[column.kind](value));
  const td = element("td", { class: classes.join(" ") });
  if (column.kind === "load") {
    const meter = element("meter", { min: 0, max: 1, high: 0.8, optimum: 0, value: Math.min(value, 1), "aria-hidden": "true" });
    td.append(meter);
  }
  td.append(data);
  return td;
}

// A table of `grid`: { name, caption, columns: [{ key, name, kind }], rows, sort, most, empty, filter }.
export function table(grid) {
  const box = element("section", { id: grid.name });
  box.append(element("h2", {}, grid.title));
  const filter = (filters[grid.name] ?? "").toLowerCase();
  if (grid.filter) {
    const input = element("input", {
      type: "search", id: `${grid.name}-filter`, value: filters[grid.name] ?? "", placeholder: "part of a word",
      oninput: (event) => {
        filters[grid.name] = event.target.value;
        redraw.now();
      },
    });
    box.append(element("p", { class: "controls" }, element("label", { for: input.id }, "Filter"), input));
  }
  const words = grid.columns.filter((column) => column.kind === "text");
  let kept = grid.rows.filter((row) => !filter || words.some((column) => String(row[column.key] ?? "").toLowerCase().includes(filter)));
  const sort = sorts[grid.name] ?? grid.sort;
  if (sort) {
    const sign = sort.down ? -1 : 1;
    const unknown = (row) => row[sort.key] === null || row[sort.key] === undefined;
    kept = kept.slice().sort((a, b) => unknown(a) - unknown(b) || (unknown(a) ? 0 : sign * compare(a[sort.key], b[sort.key])));
  }
  const total = kept.length;
  if (grid.most) kept = kept.slice(0, grid.most);
  if (total === 0) {
    box.append(element("p", { class: "quiet" }, filter ? "no row has that in a word" : grid.empty));
    return box;
  }
  const headings = grid.columns.map((column) => {
    const chosen = sort?.key === column.key;
    const classes = [column.kind === "text" ? "" : "figure", column.roomy ? "roomy" : ""].join(" ").trim();
    return element("th", { scope: "col", class: classes || null, "aria-sort": chosen ? (sort.down ? "descending" : "ascending") : null },
      element("button", {
        type: "button", id: `${grid.name}-by-${column.key}`, title: column.help,
        onclick: () => {
          sorts[grid.name] = { key: column.key, down: chosen ? !sort.down : column.kind !== "text" };
          redraw.now();
        },
      }, column.name));
  });
  const body = kept.map((row) => element("tr", {}, ...grid.columns.map((column) => cell(column, row[column.key], row))));
  const caption = total > kept.length ? `${kept.length} of ${total.toLocaleString("en-US")}` : null;
  box.append(element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": grid.title },
    element("table", {}, caption ? element("caption", {}, caption) : null,
      element("thead", {}, element("tr", {}, ...headings)), element("tbody", {}, ...body))));
  return box;
}

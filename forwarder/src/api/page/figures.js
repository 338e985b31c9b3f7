// Asking the API for rows, and figures as people read them.

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export async function rows(path) {
  const asked = performance.now();
  const answer = await fetch(path, { cache: "no-store", credentials: "omit" });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(body.error ?? `${path} was answered with ${answer.status}`, answer.status);
  return { at: (asked + performance.now()) / 2000, rows: body };
}

// Three digits and the letter of the unit, as `forwarder top` writes them.
export function short(figure) {
  if (figure < 999.5) {
    const tenths = Math.round(figure * 10) / 10;
    return figure < 9.95 && tenths % 1 !== 0 ? tenths.toFixed(1) : figure.toFixed(0);
  }
  const letters = ["k", "M", "G", "T", "P", "E"];
  let value = figure / 1000;
  let letter = 0;
  while (value >= 999.5 && letter + 1 < letters.length) {
    value /= 1000;
    letter += 1;
  }
  return value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0) + letters[letter];
}

export const FORMATS = {
  bits: (octets) => short(octets * 8),
  packets: short,
  lost: short,
  count: (number) => number.toLocaleString("en-US"),
  octets: short,
  speed: short,
  share: (part) => (part > 0 && part < 0.0005 ? "<0.1%" : `${(part * 100).toFixed(1)}%`),
};
FORMATS.load = FORMATS.share;

// `2.03G` as `2.03 G`, and `7` as `7 `: a unit follows.
export const spaced = (figure) => (/[a-z]$/i.test(figure) ? `${figure.slice(0, -1)} ${figure.slice(-1)}` : figure.endsWith("%") ? figure : `${figure} `);

export function span(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

// What each row grew by each second, and null where nobody can tell: it was not there, or its counters were made anew.
export function pair(before, now, key) {
  const known = new Map((before?.rows ?? []).map((row) => [key(row), row]));
  const seconds = before ? now.at - before.at : 0;
  return (row, field, fromNothing = false) => {
    const earlier = known.get(key(row));
    if (seconds <= 0 || (!earlier && !fromNothing)) return null;
    const more = field(row) - (earlier ? field(earlier) : 0);
    return more < 0 ? null : more / seconds;
  };
}

export const plus = (a, b) => (a === null || b === null ? null : a + b);
export const part = (some, all) => (some === null || all === null || all <= 0 ? null : Math.min(some / all, 1));

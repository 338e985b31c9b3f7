// What can be looked at: tables made of two readings, as `forwarder top` makes them.

import { FORMATS, pair, part, plus, short } from "./figures.js";

const text = (key, name, more = {}) => ({ key, name, kind: "text", ...more });
const figure = (kind, key, name, more = {}) => ({ key, name, kind, ...more });

// Preamble, frame check sequence and the gap between frames on an Ethernet link, beside what is counted.
const ON_THE_WIRE = 24;

export function interfaces(before, now) {
  const rate = pair(before?.interfaces, now.interfaces, (row) => `${row.ifname} ${row.ifindex} ${row.port}`);
  return now.interfaces.rows.map((row) => {
    const octetsIn = rate(row, (r) => r.received_bytes);
    const packetsIn = rate(row, (r) => r.received_packets);
    // What the driver sent has the kernel's packets in it.
    const octetsOut = rate(row, (r) => r.link_sent_bytes ?? r.sent_bytes);
    const packetsOut = rate(row, (r) => r.link_sent_packets ?? r.sent_packets);
    const load = (octets, packets) => (row.link_speed && octets !== null ? ((octets + packets * ON_THE_WIRE) * 8) / row.link_speed : null);
    const loads = [load(octetsIn, packetsIn), load(octetsOut, packetsOut)].filter((one) => one !== null);
    const fast = rate(row, (r) => r.forwarded_packets);
    const passed = rate(row, (r) => r.passed_packets);
    return {
      ...row, octetsIn, packetsIn, octetsOut, packetsOut, passed,
      forwarded: rate(row, (r) => r.forwarded_bytes),
      load: loads.length ? Math.max(...loads) : null,
      fast: part(fast, plus(fast, passed)),
      fastPackets: fast,
      dropped: rate(row, (r) => r.dropped_packets),
      lost: rate(row, (r) => r.redirect_errors + r.transmit_errors),
    };
  });
}

export function linksGrid(links) {
  return {
    name: "links", title: "Links", rows: links, sort: { key: "ifname", down: false }, empty: "no interface carries the program",
    columns: [
      text("ifname", "interface"), text("role", "role", { roomy: true }),
      figure("load", "load", "load", { help: "the larger direction, with what each frame takes beside it on the wire" }),
      figure("bits", "octetsIn", "in bit/s", { unit: " octets/s" }), figure("packets", "packetsIn", "in pps", { roomy: true }),
      figure("bits", "octetsOut", "out bit/s", { unit: " octets/s", help: "what the driver sent, the kernel's packets among them" }),
      figure("packets", "packetsOut", "out pps", { roomy: true }),
      figure("speed", "link_speed", "of", { roomy: true, unit: " bit/s" }),
      figure("share", "fast", "fast path", { help: "forwarded, of forwarded and passed to the kernel" }),
      figure("packets", "passed", "passed/s", { roomy: true }),
      figure("lost", "dropped", "dropped/s"), figure("lost", "lost", "lost/s", { roomy: true }),
    ],
  };
}

export function countsGrid(now) {
  return {
    name: "counts", title: "Packets since the counters were made", rows: now.interfaces.rows, sort: { key: "ifname", down: false },
    empty: "no interface carries the program",
    columns: [
      text("ifname", "interface"), text("mode", "mode", { roomy: true }), figure("count", "received_packets", "received"),
      figure("count", "forwarded_packets", "forwarded"), figure("count", "passed_packets", "passed"),
      figure("count", "dropped_packets", "dropped"), figure("count", "sent_packets", "sent"),
      figure("count", "ingress_residue", "open in", { help: "what the driver received and the program did not see" }),
      figure("count", "egress_residue", "open out", { help: "what was sent and neither transmitted nor lost" }),
    ],
  };
}

export function reasonsGrid(before, now, most) {
  const rate = pair(before?.drops, now.drops, (row) => `${row.ifname} ${row.reason} ${row.verdict}`);
  const known = new Set((before?.interfaces.rows ?? []).map((row) => row.ifname));
  const list = now.drops.rows.map((row) => ({
    ...row,
    packetRate: known.has(row.ifname) ? rate(row, (r) => r.packets, true) : null,
    octetRate: row.bytes === null || !known.has(row.ifname) ? null : rate(row, (r) => r.bytes ?? 0, true),
  }));
  list.sort((a, b) => b.packets - a.packets);
  return {
    name: "reasons", title: "Reasons", rows: list, most, filter: !most, sort: { key: "packetRate", down: true },
    empty: "nothing was dropped, passed to the kernel or lost yet",
    columns: [
      text("ifname", "interface"), text("verdict", "verdict"), text("reason", "reason"), figure("packets", "packetRate", "pps"),
      figure("bits", "octetRate", "bit/s", { roomy: true, unit: " octets/s" }), figure("count", "packets", "packets"),
      text("help", "what it means", { words: true, roomy: true }),
    ],
  };
}

export function topGrid(now, by, title, look, most) {
  const names = { prefix: "prefix", "origin-as": "origin AS", "neighbour-as": "neighbour AS" };
  const key = by.replace("-", "_");
  const listing = now[`top ${by}`];
  const all = listing.rows.reduce((sum, row) => sum + row.bytes_per_second, 0);
  const over = listing.rows[0] ? ` over ${short(listing.rows[0].milliseconds / 1000)} s` : "";
  const list = listing.rows.filter((row) => row[key] !== "(others)").map((row) => ({ ...row, share: part(row.bytes_per_second, all) }));
  const columns = [text(key, names[by], by === "prefix" ? { closer: look } : {})];
  if (by === "prefix") columns.push(text("origin_as", "origin AS", { roomy: true }));
  columns.push(figure("bits", "bytes_per_second", "bit/s", { unit: " octets/s" }), figure("packets", "packets_per_second", "pps"), figure("share", "share", "share"));
  if (by !== "prefix") columns.push(figure("count", "prefixes", "prefixes", { roomy: true }));
  return {
    name: by, title: `${title}${over}`, rows: list, most, filter: !most, sort: { key: "bytes_per_second", down: true },
    empty: listing.refused ?? "nothing was forwarded in the last seconds", columns,
  };
}

export function nextHopsGrid(before, now, most) {
  const rate = pair(before?.nextHops, now.nextHops, (row) => `${row.nexthop} ${row.af} ${row.ifname}`);
  const list = now.nextHops.rows.filter((row) => !row.nexthop.startsWith("(")).map((row) => ({
    ...row, octetRate: rate(row, (r) => r.bytes, true), packetRate: rate(row, (r) => r.packets, true),
  }));
  return {
    name: "next-hops", title: "Next hops", rows: list, most, filter: !most, sort: { key: "octetRate", down: true }, empty: "no next hop is in use",
    columns: [
      text("nexthop", "next hop"), text("af", "for", { roomy: true }), text("ifname", "interface"), text("state", "state", { roomy: true }),
      figure("bits", "octetRate", "bit/s", { unit: " octets/s" }), figure("packets", "packetRate", "pps"),
      figure("count", "packets", "packets", { roomy: true }), figure("octets", "bytes", "octets", { roomy: true, unit: " octets" }),
    ],
  };
}

export function rulesGrid(before, now) {
  const rate = pair(before?.rules, now.rules, (row) => `${row.name} ${row.origin} ${row.session} ${row.slot}`);
  const list = now.rules.rows.map((row) => ({
    ...row, octetRate: rate(row, (r) => r.bytes), packetRate: rate(row, (r) => r.packets), dropRate: rate(row, (r) => r.dropped_packets),
    from: row.session ?? row.origin, does: row.state === "active" ? row.action : `not applied: ${row.why ?? ""}`,
  }));
  return {
    name: "rules", title: "Filter rules", rows: list, filter: true, sort: { key: "order", down: false },
    empty: "no rules: [[filter.rule]] has none, and no FlowSpec neighbour has sent one",
    columns: [
      figure("count", "order", "#"), text("does", "action"), figure("bits", "octetRate", "bit/s", { unit: " octets/s" }),
      figure("packets", "packetRate", "pps"), figure("lost", "dropRate", "dropped/s"), figure("count", "packets", "packets", { roomy: true }),
      text("from", "from", { roomy: true }), text("name", "rule", { words: true }),
    ],
  };
}

export function limitsGrid(now) {
  return {
    name: "limits", title: "Up to the kernel, by class", rows: now.limits.rows, sort: { key: "passed_packets_per_second", down: true },
    empty: "nothing that goes up to the kernel is limited",
    columns: [
      text("class", "class"), figure("packets", "rate", "rate pps"), figure("packets", "per_source", "of one source", { roomy: true }),
      figure("packets", "passed_packets_per_second", "passed/s"), figure("lost", "dropped_packets_per_second", "dropped/s"),
      figure("count", "passed_packets", "passed", { roomy: true }), text("help", "what it is", { words: true, roomy: true }),
    ],
  };
}

export function feedsGrid(now) {
  const list = now.status.rows[0].sources.map((row) => ({ ...row, stale: row.stale_ipv4 + row.stale_ipv6 }));
  return {
    name: "feeds", title: "Sources of routes", rows: list, sort: null, empty: "no source of routes",
    columns: [
      text("kind", "feed"), text("name", "name"), text("state", "state"), figure("count", "routes_ipv4", "IPv4"),
      figure("count", "routes_ipv6", "IPv6"), figure("count", "stale", "stale", { roomy: true }),
      figure("count", "updates_per_second", "updates/s"), figure("count", "errors", "errors", { roomy: true }),
      text("last_error", "last error", { words: true, roomy: true }),
    ],
  };
}

// What is agreed is compared with the larger direction over the edge.
export function accountsGrid(before, now) {
  const rate = pair(before?.accounts, now.accounts, (row) => row.account);
  const list = now.accounts.rows.map((row) => {
    const into = rate(row, (r) => r.in_bytes);
    const out = rate(row, (r) => r.out_bytes);
    const most = into === null || out === null ? null : Math.max(into, out);
    return {
      ...row, into, out, inside: rate(row, (r) => r.inside_bytes),
      others: plus(rate(row, (r) => r.from_accounts_bytes), rate(row, (r) => r.to_accounts_bytes)),
      used: row.commit && most !== null ? (most * 8) / row.commit : null,
    };
  });
  return {
    name: "accounts", title: "Accounts", rows: list, filter: true, sort: { key: "into", down: true },
    empty: now.accounts.refused ?? "there are no accounts",
    columns: [
      text("account", "account"), figure("bits", "into", "in bit/s", { unit: " octets/s", help: "to it, over the edge of the network" }),
      figure("bits", "out", "out bit/s", { unit: " octets/s", help: "from it, over the edge of the network" }),
      figure("share", "used", "of commit"), figure("speed", "commit", "commit", { roomy: true, unit: " bit/s" }),
      figure("bits", "inside", "inside bit/s", { roomy: true, unit: " octets/s" }),
      figure("bits", "others", "other accounts", { roomy: true, unit: " octets/s", help: "from and to other accounts, not over the edge" }),
      figure("octets", "in_bytes", "in octets", { roomy: true, unit: " octets" }), figure("octets", "out_bytes", "out octets", { roomy: true, unit: " octets" }),
    ],
  };
}

// The 95th percentiles of a month: rows, or why there are none.
export function billsGrid(by, found, look) {
  const list = Array.isArray(found) ? found.map((row) => ({ ...row, used: row.commit ? row.p95 / row.commit : null })) : [];
  const titles = { account: "Accounts", carrier: "Carriers" };
  const rate = (key, name, more = {}) => figure("speed", key, name, { unit: " bit/s", ...more });
  return {
    name: `bills-${by}`, title: titles[by], rows: list, filter: list.length > 20, sort: { key: "p95", down: true },
    empty: typeof found === "string" ? found : "nothing to bill",
    columns: [
      text("name", by, { closer: look, of: by }), rate("p95_in", "p95 in"), rate("p95_out", "p95 out"),
      rate("p95", "billed", { roomy: true, help: "the larger of both" }), rate("commit", "commit"), figure("share", "used", "of commit"),
      rate("peak_in", "peak in", { roomy: true }), rate("peak_out", "peak out", { roomy: true }),
      figure("octets", "bytes_in", "in octets", { roomy: true, unit: " octets" }), figure("octets", "bytes_out", "out octets", { roomy: true, unit: " octets" }),
    ],
  };
}

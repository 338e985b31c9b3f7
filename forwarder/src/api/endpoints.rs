//! Every path of the API, once: the router and the document at `/v1/openapi.json` are both made from this table.

use axum::routing::{MethodRouter, get};
use forwarder_history::report::{
    capacity, commit,
    names::{By as Subject, Traffic},
    p95, peering,
};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{
    handlers::{self, Server},
    history::{self, HistoryNameRow, HistoryRow, Of},
    report,
};
use crate::stats::{
    BlackholeRow, By, CandidateRow, CounterRow, DropRow, InterfaceRow, LimitRow, RouteRow, RuleRow,
    StatusRow, lookup::LookupRow, rates::RateRow,
};

/// A path that answers rows.
pub(super) struct Endpoint {
    pub path: &'static str,
    pub summary: &'static str,
    pub parameters: &'static [Parameter],
    /// The schema of a row.
    pub row: fn(&mut SchemaGenerator) -> Schema,
    pub handler: fn() -> MethodRouter<Server>,
}

/// Something that a question may say.
pub(super) struct Parameter {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    pub required: bool,
    /// A value that works.
    pub example: &'static str,
}

/// What a parameter is.
pub(super) enum Kind {
    Flag,
    /// A number from 1 to this.
    Number(u64),
    /// A number above 0 and up to 100.
    Percent,
    /// Seconds since 1970.
    Time,
    Text,
    /// One of some words.
    Word(fn() -> Vec<&'static str>),
}

fn row<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const fn optional(name: &'static str, kind: Kind, example: &'static str, help: &'static str) -> Parameter {
    Parameter {
        name,
        help,
        kind,
        required: false,
        example,
    }
}

const fn required(name: &'static str, kind: Kind, example: &'static str, help: &'static str) -> Parameter {
    Parameter {
        required: true,
        ..optional(name, kind, example, help)
    }
}

const MONTH: Parameter = optional("month", Kind::Text, "2025-06", "The month; without it, this one");
const TIME_ZONE: Parameter = optional(
    "time_zone",
    Kind::Text,
    "Europe/Zurich",
    "By whose calendar; without it, UTC",
);
const LARGEST: Parameter = optional(
    "top",
    Kind::Number(report::TOP_MOST as u64),
    "5",
    "How many of the largest prefixes or networks; without it, 20",
);

fn subjects() -> Vec<&'static str> {
    Subject::ALL.map(Subject::name).to_vec()
}

/// What has contracts.
fn contractors() -> Vec<&'static str> {
    [Subject::Carrier, Subject::Interface, Subject::Account]
        .map(Subject::name)
        .to_vec()
}

const CONTRACTS: &[Parameter] = &[
    optional(
        "by",
        Kind::Word(contractors),
        "interface",
        "What about; without it, carrier: an interface whose role is transit",
    ),
    optional(
        "name",
        Kind::Text,
        "transit0",
        "Which; without it, all with a contract",
    ),
    optional(
        "commit",
        Kind::Text,
        "1Gbit",
        "What is contracted for that name, where the configuration does not say it",
    ),
    optional(
        "month",
        Kind::Text,
        "2025-06",
        "The first month; without it, the last one and this one so far",
    ),
    optional(
        "until",
        Kind::Text,
        "2025-06",
        "The last month; without it, the first; at most 13 in all",
    ),
    TIME_ZONE,
    optional(
        "longest",
        Kind::Number(report::LONGEST_MOST as u64),
        "5",
        "How many of the longest times below; without it, 5",
    ),
];

/// All of them.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        path: "/v1/status",
        summary: "Health, in one row",
        parameters: &[],
        row: row::<StatusRow>,
        handler: || get(handlers::status),
    },
    Endpoint {
        path: "/v1/interfaces",
        summary: "Per interface: received, forwarded, dropped, passed to the kernel, sent",
        parameters: &[],
        row: row::<InterfaceRow>,
        handler: || get(handlers::interfaces),
    },
    Endpoint {
        path: "/v1/drops",
        summary: "Per interface and reason: what was dropped, passed to the kernel, or lost on the way out",
        parameters: &[optional(
            "all",
            Kind::Flag,
            "true",
            "Reasons that have counted nothing too",
        )],
        row: row::<DropRow>,
        handler: || get(handlers::drops),
    },
    Endpoint {
        path: "/v1/counters",
        summary: "Forwarded packets and octets, the largest first. They only ever grow: a rate is the difference of two answers",
        parameters: &[
            optional(
                "by",
                Kind::Word(|| By::ALL.map(By::name).to_vec()),
                "prefix",
                "What to count by; without it, prefix",
            ),
            optional(
                "top",
                Kind::Number(u32::MAX as u64),
                "10",
                "Only so many rows, and one for the others. Beside /metrics at most 10,000, and 1,000 without it",
            ),
            optional("all", Kind::Flag, "true", "Rows that have counted nothing too"),
        ],
        row: row::<CounterRow>,
        handler: || get(handlers::counters),
    },
    Endpoint {
        path: "/v1/top",
        summary: "Rates of the last ten seconds: the prefixes or networks to which most was forwarded",
        parameters: &[
            optional(
                "by",
                Kind::Word(|| [By::Prefix, By::OriginAs, By::NeighbourAs].map(By::name).to_vec()),
                "origin-as",
                "Of what; without it, prefix",
            ),
            optional(
                "top",
                Kind::Number(handlers::PAGE_MOST as u64),
                "10",
                "Only so many rows, and one for the others; without it, 20",
            ),
        ],
        row: row::<RateRow>,
        handler: || get(handlers::top),
    },
    Endpoint {
        path: "/v1/history",
        summary: "What was counted in the past, added up to as many rows as there is room for; none where nothing was watched",
        parameters: &[
            required(
                "of",
                Kind::Word(|| Of::ALL.map(Of::name).to_vec()),
                "interface",
                "Of what",
            ),
            required("name", Kind::Text, "transit0", "What it is called"),
            optional(
                "from",
                Kind::Time,
                "1700000000",
                "From when, seconds since 1970; without it, a day before to",
            ),
            optional(
                "to",
                Kind::Time,
                "1800000000",
                "Up to when, not included; without it, now",
            ),
            optional(
                "points",
                Kind::Number(history::POINTS_MOST as u64),
                "288",
                "Only so many rows; without it, 1,000",
            ),
        ],
        row: row::<HistoryRow>,
        handler: || get(history::samples_of),
    },
    Endpoint {
        path: "/v1/history/names",
        summary: "What has a history",
        parameters: &[required(
            "of",
            Kind::Word(|| Of::ALL.map(Of::name).to_vec()),
            "interface",
            "Of what",
        )],
        row: row::<HistoryNameRow>,
        handler: || get(history::list),
    },
    Endpoint {
        path: "/v1/report/p95",
        summary: "What is billed: the 95th percentile of the five-minute samples of a month, in and out, bits a second",
        parameters: &[
            optional(
                "by",
                Kind::Word(subjects),
                "interface",
                "What about; without it, account",
            ),
            optional(
                "name",
                Kind::Text,
                "transit0",
                "Which; without it, all (of prefixes and networks the largest)",
            ),
            MONTH,
            TIME_ZONE,
            optional(
                "traffic",
                Kind::Word(|| Traffic::ALL.map(Traffic::name).to_vec()),
                "outside",
                "Of accounts: what crosses the edge (without it), what stays inside, or both",
            ),
            LARGEST,
        ],
        row: row::<p95::Row>,
        handler: || get(report::p95),
    },
    Endpoint {
        path: "/v1/report/commit",
        summary: "What was delivered of what is contracted, by month and direction",
        parameters: CONTRACTS,
        row: row::<commit::Row>,
        handler: || get(report::commit),
    },
    Endpoint {
        path: "/v1/report/commit/shortfalls",
        summary: "The longest times without a break below what is contracted",
        parameters: CONTRACTS,
        row: row::<commit::Shortfall>,
        handler: || get(report::shortfalls),
    },
    Endpoint {
        path: "/v1/report/capacity",
        summary: "How full links are, how they grow, and when a share of their speed is reached",
        parameters: &[
            optional("name", Kind::Text, "transit0", "Which interface; without it, all"),
            optional(
                "speed",
                Kind::Text,
                "10Gbit",
                "The speed of that interface, where its driver does not tell it",
            ),
            optional(
                "share",
                Kind::Percent,
                "80",
                "How much of the speed is too much, percent; without it, 80",
            ),
            optional(
                "days",
                Kind::Number(report::DAYS_MOST as u64),
                "3660",
                "How many days back; without it, 90",
            ),
            TIME_ZONE,
        ],
        row: row::<capacity::Row>,
        handler: || get(report::capacity),
    },
    Endpoint {
        path: "/v1/report/peering",
        summary: "What would move if we peered with a network; without one, the largest networks",
        parameters: &[
            optional("asn", Kind::Text, "64500", "The network's number"),
            MONTH,
            TIME_ZONE,
            LARGEST,
        ],
        row: row::<peering::Row>,
        handler: || get(report::peering),
    },
    Endpoint {
        path: "/v1/routes",
        summary: "The forwarding table, in order: a row for each next hop of each prefix",
        parameters: &[
            optional(
                "prefix",
                Kind::Text,
                "198.51.100.0/24",
                "This prefix and its more specific ones, or the one that an address is counted for; without it, all",
            ),
            optional(
                "limit",
                Kind::Number(handlers::PAGE_MOST as u64),
                "1",
                "Only so many prefixes; where there are more, the header Link names the next page (rel=\"next\", RFC 8288). Beside \
                 /metrics 1,000 without it",
            ),
            optional(
                "after",
                Kind::Text,
                "192.0.2.0/24",
                "Go on behind this prefix, the last of the page before; with limit",
            ),
        ],
        row: row::<RouteRow>,
        handler: || get(handlers::routes),
    },
    Endpoint {
        path: "/v1/candidates",
        summary: "Every source's route for one prefix, which of them counts, and why",
        parameters: &[required(
            "prefix",
            Kind::Text,
            "198.51.100.0/24",
            "Prefix, or an address: the longest prefix that covers it",
        )],
        row: row::<CandidateRow>,
        handler: || get(handlers::candidates),
    },
    Endpoint {
        path: "/v1/lookup",
        summary: "What the data path does with packets to an address: a row for each next hop",
        parameters: &[required("address", Kind::Text, "198.51.100.7", "Destination")],
        row: row::<LookupRow>,
        handler: || get(handlers::lookup_one),
    },
    Endpoint {
        path: "/v1/filter",
        summary: "Filter rules in the order in which they are asked, and those that are not applied",
        parameters: &[],
        row: row::<RuleRow>,
        handler: || get(handlers::filter),
    },
    Endpoint {
        path: "/v1/blackholes",
        summary: "Blackhole routes, with what each threw away",
        parameters: &[],
        row: row::<BlackholeRow>,
        handler: || get(handlers::blackholes),
    },
    Endpoint {
        path: "/v1/limits",
        summary: "What goes up to the kernel, by class, and what of it was dropped",
        parameters: &[],
        row: row::<LimitRow>,
        handler: || get(handlers::punt),
    },
];

//! What feeds of a routing daemon say (BGP sessions, FPM connections), in our own types: the contract between the sources
//! that speak a daemon's protocol and the RIB.
//!
//! A feed has its own thread and sends [`Batch`]es down a bounded channel: when the RIB is behind, the feed stops reading
//! its socket, and the daemon waits. A feed never waits for anything else, and nobody waits for a feed.
//!
//! A table of a feed is synchronised by mark and sweep. When a session begins, [`FeedEvent::Mark`] makes everything known of
//! that table stale; what is announced again is fresh; [`FeedEvent::Sweep`] withdraws what is still stale. The feed knows
//! when: at End-of-RIB, when a restart timer has run out, when a replay without an end has been quiet for long enough. The
//! RIB knows nothing of timers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answers::Answers;
use super::event::{Hop, NexthopKind};
use super::tap::Tap;
use crate::locked::locked;

/// Number of a feed: given by whoever starts it, and kept for as long as the controller runs.
pub type FeedId = u16;

/// Things said by one feed, in its order.
#[derive(Debug)]
pub struct Batch {
    /// Who says it.
    pub feed: FeedId,
    /// What.
    pub events: Vec<FeedEvent>,
}

/// A table of a feed, synchronised on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FeedTable {
    /// IPv4 unicast.
    Ipv4,
    /// IPv6 unicast.
    Ipv6,
    /// FlowSpec for IPv4 (RFC 8955).
    FlowSpec4,
    /// FlowSpec for IPv6 (RFC 8956).
    FlowSpec6,
}

/// One thing that a feed says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedEvent {
    /// The session changed its state.
    State(FeedState),
    /// A route appeared, or took the place of the one with the same prefix and path id.
    Route {
        /// Prefix, without bits beyond its length.
        prefix: IpNet,
        /// ADD-PATH identifier (RFC 7911); 0 where the session has none.
        path_id: u32,
        /// The route.
        route: FeedRoute,
    },
    /// A route is gone. One that was never there is no error.
    RouteGone {
        /// Prefix.
        prefix: IpNet,
        /// ADD-PATH identifier.
        path_id: u32,
    },
    /// A next-hop object or group of the feed's own numbering appeared or changed (FPM). May come after routes and groups
    /// that name it; until then those lead nowhere and are left to the kernel.
    Nexthop {
        /// Its id, in this feed's own space.
        id: u32,
        /// What it is.
        kind: NexthopKind,
    },
    /// A next-hop object or group is gone.
    NexthopGone(u32),
    /// A FlowSpec rule appeared or changed.
    Flow(Arc<FlowRule>),
    /// A FlowSpec rule is gone; the NLRI in canonical form names it.
    FlowGone(FeedTable, Vec<u8>),
    /// Everything known of this table is stale until it is announced again.
    Mark {
        /// Which table.
        table: FeedTable,
        /// Long-lived graceful restart (RFC 9494): what is stale is used only where there is nothing else.
        least_preferred: bool,
    },
    /// What is still stale is gone.
    Sweep(FeedTable),
    /// The first synchronisation of this session has ended for this table: End-of-RIB, or what stands for it.
    Synchronised(FeedTable),
    /// There is no such feed any more, and nothing is left of it: the last thing that it says, and alone in its batch. Its
    /// number may be another's from then on.
    Forgotten,
}

/// State of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeedState {
    /// Nobody is connected, and nothing is known from before.
    #[default]
    Down,
    /// A connection is being negotiated.
    Connecting,
    /// The first routes are coming; End-of-RIB has not been seen.
    Syncing,
    /// In step with the daemon.
    Live,
    /// The session is lost; its routes are kept for the restart time.
    Stale,
}

impl FeedState {
    /// As shown: "down", "connecting", "syncing", "live", "stale".
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            FeedState::Down => "down",
            FeedState::Connecting => "connecting",
            FeedState::Syncing => "syncing",
            FeedState::Live => "live",
            FeedState::Stale => "stale",
        }
    }
}

/// A route of a feed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FeedRoute {
    /// What it does.
    pub target: Target,
    /// What is known of where it comes from; shared between the routes that came with the same.
    pub attributes: Arc<Attributes>,
}

/// Where a feed's route leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// BGP next hops, to be resolved by the kernel's connected, static and IGP routes.
    Gateway(Gateway),
    /// Next hops with their interface, as FPM gives them.
    Hops(Vec<Hop>),
    /// A next-hop object or group of this feed.
    Nexthop(u32),
    /// Drop.
    Blackhole,
    /// Drop, and say so.
    Unreachable,
    /// Drop, and say that it is forbidden.
    Prohibit,
}

/// A BGP next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gateway {
    /// The address; of the other family with RFC 8950. For IPv6 the global one where there is one.
    pub address: IpAddr,
    /// The link-local address beside the global one (RFC 2545). On its own it stands in `address`, and its interface is
    /// that on which the session runs or which `interface` names.
    pub link_local: Option<Ipv6Addr>,
    /// The interface of a link-local next hop, where the session says so.
    pub interface: Option<u32>,
}

/// What a route carries besides where it leads. Empty for feeds that have none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// ORIGIN (RFC 4271 5.1.1): 0 IGP, 1 EGP, 2 incomplete.
    pub origin: u8,
    /// AS_PATH, merged with AS4_PATH; nearest first.
    pub as_path: Vec<Segment>,
    /// LOCAL_PREF; 100 where the session gives none.
    pub local_pref: u32,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Communities (RFC 1997), as in the message.
    pub communities: Vec<u32>,
    /// Extended communities (RFC 4360), eight octets each; those for IPv6 (RFC 5701) have twenty and stand in `extended6`.
    pub extended: Vec<[u8; 8]>,
    /// IPv6 address-specific extended communities (RFC 5701).
    pub extended6: Vec<[u8; 20]>,
    /// Large communities (RFC 8092).
    pub large: Vec<[u32; 3]>,
    /// Length of CLUSTER_LIST.
    pub cluster_list: u8,
    /// ORIGINATOR_ID, else the peer's BGP identifier.
    pub originator: u32,
    /// Whether the session is an external one.
    pub external: bool,
    /// Metric (FPM).
    pub metric: u32,
    /// `RTPROT_*` (FPM); 186, RTPROT_BGP, for a BGP session.
    pub protocol: u8,
}

/// A segment of an AS path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// AS_SEQUENCE.
    Sequence(Vec<u32>),
    /// AS_SET: counts as one.
    Set(Vec<u32>),
}

impl Attributes {
    /// The AS that the prefix comes from: the last of the path; `None` for our own and for a path that ends in a set.
    #[must_use]
    pub fn origin_as(&self) -> Option<u32> {
        match self.as_path.last()? {
            Segment::Sequence(path) => path.last().copied(),
            Segment::Set(set) => match set.as_slice() {
                [one] => Some(*one),
                _ => None,
            },
        }
    }

    /// The AS that it is heard from: the first of the path.
    #[must_use]
    pub fn neighbour_as(&self) -> Option<u32> {
        match self.as_path.first()? {
            Segment::Sequence(path) => path.first().copied(),
            Segment::Set(_) => None,
        }
    }
}

/// A FlowSpec rule as it came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FlowRule {
    /// [`FeedTable::FlowSpec4`] or [`FeedTable::FlowSpec6`].
    pub table: FeedTable,
    /// The NLRI without its length, which is the rule's name (RFC 8955 4).
    pub nlri: Vec<u8>,
    /// The BGP attributes, whose extended communities are the actions.
    pub attributes: Arc<Attributes>,
}

/// A feed as the rest of the controller knows it.
#[derive(Clone, Debug)]
pub struct FeedHandle {
    /// Its number.
    pub id: FeedId,
    /// "bgp", "fpm".
    pub kind: &'static str,
    /// Which one: the neighbour's address.
    pub name: String,
    /// Counts; the feed writes, anybody reads.
    pub counts: Arc<FeedCounts>,
    /// Tap on the octets that it reads.
    pub tap: Arc<Tap>,
    /// Where it waits to hear what became of its routes; `None` of those that do not ask.
    pub answers: Option<Arc<Answers>>,
}

/// Counts of a feed since the controller started.
#[derive(Debug, Default)]
pub struct FeedCounts {
    /// Messages received.
    pub messages: AtomicU64,
    /// Octets received.
    pub bytes: AtomicU64,
    /// Announcements and withdrawals.
    pub updates: AtomicU64,
    /// Sessions that came up.
    pub sessions: AtomicU64,
    /// Messages, routes or attributes that were not understood, or not applied.
    pub errors: AtomicU64,
    /// Routes refused because the session's limit was reached.
    pub over_limit: AtomicU64,
    /// Of these, those that are missing now: goes down again when they have gone, or have found room.
    pub refused: AtomicU64,
    /// Messages that were understood and are none of ours: other tables, MPLS, what the kernel tells better.
    pub left_out: AtomicU64,
    /// The last thing that went wrong, as a sentence.
    last_error: Mutex<Option<String>>,
    /// What both sides agreed on.
    session: Mutex<SessionView>,
}

/// A session of a feed as `status` shows it. Empty where feeds have none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SessionView {
    /// The other side's AS.
    pub peer_as: Option<u32>,
    /// Its BGP identifier, while there is a session.
    pub router_id: Option<Ipv4Addr>,
    /// Hold time in force, seconds.
    pub hold_time: Option<u64>,
    /// It offered graceful restart, with this time in seconds.
    pub restart_time: Option<u64>,
    /// What both sides can do: "four-octet-as", "route-refresh"...
    pub capabilities: Vec<String>,
    /// Tables of the session.
    pub tables: Vec<TableView>,
    /// Who is connected by FPM: address and port.
    pub connected: Option<String>,
    /// The last NOTIFICATION, of this session or one before: "sent: ..." or "received: ...".
    pub notification: Option<String>,
}

/// A table of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TableView {
    /// Which one.
    pub table: FeedTable,
    /// Routes or rules that are there.
    pub routes: usize,
    /// How many may be.
    pub limit: usize,
    /// How many are missing because there were more.
    pub refused: u64,
    /// More than one path for a prefix.
    pub add_path: bool,
}

impl FeedCounts {
    /// Notes what went wrong. Does not count it.
    pub fn note(&self, what: String) {
        *locked(&self.last_error) = Some(what);
    }

    /// Shows what the session is like now.
    pub fn show(&self, session: SessionView) {
        *locked(&self.session) = session;
    }

    /// What the session is like.
    #[must_use]
    pub fn session(&self) -> SessionView {
        locked(&self.session).clone()
    }

    /// The last thing that went wrong.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        locked(&self.last_error).clone()
    }
}

//! `[routes.bgp]`: who may call us by BGP, and what is taken from them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Deserializer, de::Error as _};
use toml::Spanned;

use super::ConfigError;
use super::check::Check;
use super::file::Age;
use crate::filter::blackhole::{BLACKHOLE, Community};

/// Hold time that is offered unless another is written, seconds.
const HOLD_TIME: u16 = 90;
/// Routes or rules that a neighbour may bring unless something else is written: both families of a full table twice, and
/// more rules than a filter should have.
const LIMITS: Limits = Limits {
    ipv4: 4_000_000,
    ipv6: 2_000_000,
    flowspec: 10_000,
};
/// Listening addresses.
const MOST_LISTENERS: usize = 16;
/// Communities that drop.
const MOST_COMMUNITIES: usize = 64;
/// Neighbours.
const MOST_NEIGHBOURS: usize = 64;
/// Longest key for TCP-MD5 (`TCP_MD5SIG_MAXKEYLEN`, linux/tcp.h).
const LONGEST_PASSWORD: usize = 80;

/// The BGP feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpConfig {
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Our AS.
    pub local_as: u32,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// Hold time that is offered, seconds; 0 = none.
    pub hold_time: u16,
    /// Routes of a neighbour that restarts are kept for the time it asks for.
    pub graceful_restart: bool,
    /// A FlowSpec rule must be its announcer's to make (RFC 8955 6, RFC 9117).
    pub flowspec_validation: bool,
    /// Routes with one of these communities are dropped.
    pub blackhole_communities: Vec<Community>,
    /// Who may call. Without any, whoever calls from this host with our AS.
    pub neighbours: Vec<BgpNeighbour>,
}

/// A neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpNeighbour {
    /// What it is called; its address, unless a name is written.
    pub name: String,
    /// The address that it calls from.
    pub address: IpAddr,
    /// Its AS.
    pub peer_as: u32,
    /// Key for TCP-MD5 (RFC 2385).
    pub password: Option<Secret>,
    /// Packets must come from a hop away (RFC 5082).
    pub ttl_security: bool,
    /// More than one path for a prefix is taken.
    pub add_path: bool,
    /// How much it may bring.
    pub limits: Limits,
    /// A limit that is passed ends the session, instead of refusing what is too much.
    pub disconnect: bool,
}

impl BgpNeighbour {
    /// A neighbour of which only address and AS are known.
    #[must_use]
    pub fn plain(address: IpAddr, peer_as: u32) -> BgpNeighbour {
        BgpNeighbour {
            name: address.to_string(),
            address,
            peer_as,
            password: None,
            ttl_security: false,
            add_path: true,
            limits: LIMITS,
            disconnect: false,
        }
    }
}

/// Routes and rules that a neighbour may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// IPv4 routes.
    pub ipv4: u32,
    /// IPv6 routes.
    pub ipv6: u32,
    /// FlowSpec rules of each family.
    pub flowspec: u32,
}

/// A password. Shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a password.
    #[must_use]
    pub const fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The password itself, for who needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        // The reader's own message for a wrong type would quote the value.
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => Ok(Secret(text)),
            _ => Err(D::Error::custom(
                "a password is text: write it between double quotes",
            )),
        }
    }
}

/// One, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// The section as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Written {
    listen: Spanned<OneOrMore>,
    local_as: Spanned<i64>,
    router_id: Option<Spanned<String>>,
    hold_time: Option<Spanned<Age>>,
    graceful_restart: Option<bool>,
    flowspec_validation: Option<bool>,
    blackhole_communities: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    neighbour: Vec<Spanned<WrittenNeighbour>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenNeighbour {
    name: Option<Spanned<String>>,
    address: Spanned<String>,
    #[serde(rename = "as")]
    peer_as: Option<Spanned<i64>>,
    password: Option<Spanned<Secret>>,
    ttl_security: Option<bool>,
    add_path: Option<bool>,
    limit_ipv4: Option<Spanned<i64>>,
    limit_ipv6: Option<Spanned<i64>>,
    limit_flowspec: Option<Spanned<i64>>,
    over_limit: Option<OverLimit>,
}

/// What happens to routes beyond a limit.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OverLimit {
    #[default]
    Refuse,
    Disconnect,
}

impl Check<'_> {
    pub(super) fn bgp(&self, written: &Written) -> Result<BgpConfig, ConfigError> {
        let listen = self.listen(&written.listen)?;
        let local_as = self.autonomous_system("local-as", &written.local_as)?;
        let mut neighbours: Vec<BgpNeighbour> = Vec::new();
        for section in &written.neighbour {
            let neighbour = self.neighbour(section.get_ref(), local_as, &listen)?;
            let address = &section.get_ref().address;
            if neighbours.iter().any(|known| known.address == neighbour.address) {
                let message = format!("the neighbour {} is configured twice", neighbour.address);
                return Err(self.error(address, message, "keep one of the two sections"));
            }
            if neighbours.len() >= MOST_NEIGHBOURS {
                let message = format!("more than {MOST_NEIGHBOURS} neighbours");
                return Err(self.error(address, message, "name fewer"));
            }
            neighbours.push(neighbour);
        }
        if neighbours.is_empty() && !listen.iter().any(|at| at.ip().is_loopback()) {
            return Err(self.error(
                &written.listen,
                "nobody may call: without neighbours only this host may, and it listens on no loopback address".into(),
                "add [[routes.bgp.neighbour]] with address = \"...\", or listen on 127.0.0.2:1179",
            ));
        }
        let hold_time = match &written.hold_time {
            None => HOLD_TIME,
            Some(at) => match u16::try_from(at.get_ref().0.as_secs()) {
                Ok(seconds) if seconds == 0 || seconds >= 3 => seconds,
                _ => {
                    let message = "this hold time is out of range".into();
                    return Err(self.error(at, message, "write \"3s\" to \"65535s\", or \"0\" for none"));
                }
            },
        };
        Ok(BgpConfig {
            router_id: self.router_id(written.router_id.as_ref(), &listen, local_as)?,
            listen,
            local_as,
            hold_time,
            graceful_restart: written.graceful_restart.unwrap_or(true),
            flowspec_validation: written.flowspec_validation.unwrap_or(true),
            blackhole_communities: match &written.blackhole_communities {
                None => vec![BLACKHOLE],
                Some(words) => self.communities(words)?,
            },
            neighbours,
        })
    }

    fn listen(&self, written: &Spanned<OneOrMore>) -> Result<Vec<SocketAddr>, ConfigError> {
        let words = match written.get_ref() {
            OneOrMore::One(word) => std::slice::from_ref(word),
            OneOrMore::More(words) => words,
        };
        let mut listen: Vec<SocketAddr> = Vec::new();
        for word in words {
            let at = self.socket(written, word, "127.0.0.2:1179 or [2001:db8::1]:179")?;
            if listen.contains(&at) {
                return Err(self.error(written, format!("`{at}` stands here twice"), "write it once"));
            }
            listen.push(at);
        }
        if listen.is_empty() || listen.len() > MOST_LISTENERS {
            let message = format!("{} addresses to listen on", listen.len());
            return Err(self.error(written, message, &format!("write 1 to {MOST_LISTENERS}")));
        }
        Ok(listen)
    }

    fn communities(&self, written: &[Spanned<String>]) -> Result<Vec<Community>, ConfigError> {
        if let Some(at) = written.get(MOST_COMMUNITIES) {
            let message = format!("more than {MOST_COMMUNITIES} communities");
            return Err(self.error(at, message, "name fewer"));
        }
        let read = |at: &Spanned<String>| {
            at.get_ref().parse().map_err(|()| {
                let message = format!("`{}` is not a community", at.get_ref());
                self.error(at, message, "write it as 65535:666, or as 4200000000:666:0")
            })
        };
        written.iter().map(read).collect()
    }

    fn autonomous_system(&self, key: &str, written: &Spanned<i64>) -> Result<u32, ConfigError> {
        // 0, AS_TRANS and the last of each size belong to nobody (RFC 7607, RFC 6793, RFC 7300).
        match u32::try_from(*written.get_ref()) {
            Ok(number) if !matches!(number, 0 | 23_456 | 65_535 | u32::MAX) => Ok(number),
            _ => Err(self.error(
                written,
                format!("{key} = {} is no AS number", written.get_ref()),
                "an AS has a number from 1 to 4294967294, but neither 23456 nor 65535; private ones begin at 64512",
            )),
        }
    }

    /// As written, or the first IPv4 address it listens on, or one that is made up of the rest: it must differ from the
    /// neighbours' and mean nothing else.
    fn router_id(
        &self,
        written: Option<&Spanned<String>>,
        listen: &[SocketAddr],
        local_as: u32,
    ) -> Result<Ipv4Addr, ConfigError> {
        let valid = |id: &Ipv4Addr| !(id.is_unspecified() || id.is_multicast() || id.is_broadcast());
        if let Some(at) = written {
            return at.get_ref().parse().ok().filter(valid).ok_or_else(|| {
                let message = format!("`{}` is no BGP identifier", at.get_ref());
                self.error(at, message, "write it as an IPv4 address, as 192.0.2.1")
            });
        }
        let own = listen.iter().find_map(|at| match at.ip() {
            IpAddr::V4(address) if valid(&address) => Some(address),
            _ => None,
        });
        let [_, b, c, d] = local_as.to_be_bytes();
        Ok(own.unwrap_or_else(|| Ipv4Addr::new(127, b, c, d | 1)))
    }

    fn neighbour(
        &self,
        written: &WrittenNeighbour,
        local_as: u32,
        listen: &[SocketAddr],
    ) -> Result<BgpNeighbour, ConfigError> {
        let at = &written.address;
        let address: IpAddr = at.get_ref().parse().map_err(|_| {
            let message = format!("`{}` is not an address", at.get_ref());
            self.error(
                at,
                message,
                "write the address that the neighbour calls from, as 192.0.2.1",
            )
        })?;
        if address.is_unspecified() || address.is_multicast() {
            let message = format!("nobody calls from {address}");
            return Err(self.error(at, message, "write the address that the neighbour calls from"));
        }
        if !listen.iter().any(|own| own.is_ipv4() == address.is_ipv4()) {
            let message = format!("{address} cannot reach any address of `listen`");
            return Err(self.error(at, message, "add an address of the same family to `listen`"));
        }
        let plain = BgpNeighbour::plain(address, local_as);
        let limit = |key: &str, written: &Option<Spanned<i64>>, default| {
            self.number(key, written.as_ref(), default, 1..=100_000_000)
        };
        Ok(BgpNeighbour {
            name: match &written.name {
                Some(name) if name.get_ref().trim().is_empty() => {
                    return Err(self.error(name, "an empty name".into(), "write one, or remove the line"));
                }
                Some(name) => name.get_ref().clone(),
                None => plain.name,
            },
            peer_as: match &written.peer_as {
                Some(number) => self.autonomous_system("as", number)?,
                None => plain.peer_as,
            },
            password: self.password(written.password.as_ref())?,
            ttl_security: written.ttl_security.unwrap_or(plain.ttl_security),
            add_path: written.add_path.unwrap_or(plain.add_path),
            limits: Limits {
                ipv4: limit("limit-ipv4", &written.limit_ipv4, LIMITS.ipv4)?,
                ipv6: limit("limit-ipv6", &written.limit_ipv6, LIMITS.ipv6)?,
                flowspec: limit("limit-flowspec", &written.limit_flowspec, LIMITS.flowspec)?,
            },
            disconnect: matches!(written.over_limit, Some(OverLimit::Disconnect)),
            ..plain
        })
    }

    fn password(&self, written: Option<&Spanned<Secret>>) -> Result<Option<Secret>, ConfigError> {
        let Some(at) = written else { return Ok(None) };
        match at.get_ref().reveal().len() {
            1..=LONGEST_PASSWORD => Ok(Some(at.get_ref().clone())),
            length => Err(self.error(
                at,
                format!("a password of {length} octets"),
                &format!("TCP-MD5 takes 1 to {LONGEST_PASSWORD}"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, parse};
    use super::*;

    fn read(section: &str) -> Result<BgpConfig, String> {
        let text = format!("[[interface]]\nname = \"eth0\"\n{section}");
        let config: Config = parse("f.toml", &text).map_err(|error| error.to_string())?;
        config.routes.bgp.ok_or_else(|| "no section".into())
    }

    const SIMPLE: &str = "[routes.bgp]\nlisten = \"127.0.0.2:1179\"\nlocal-as = 64500\n";

    #[test]
    fn two_lines_are_enough_for_a_daemon_on_this_host() {
        let config = read(SIMPLE).unwrap();
        assert_eq!(config.listen, ["127.0.0.2:1179".parse().unwrap()]);
        assert_eq!((config.local_as, config.hold_time), (64_500, 90));
        assert_eq!(config.blackhole_communities, [BLACKHOLE]);
        assert_eq!(config.router_id, Ipv4Addr::new(127, 0, 0, 2));
        assert!(config.graceful_restart && config.flowspec_validation && config.neighbours.is_empty());
    }

    #[test]
    fn a_neighbour_has_all_its_lines() {
        let config = read(
            "[routes.bgp]\nlisten = [\"0.0.0.0:179\", \"[::]:179\"]\nlocal-as = 4200000000\nrouter-id = \"192.0.2.9\"\n\
             hold-time = \"30s\"\ngraceful-restart = false\nflowspec-validation = false\n\
             blackhole-communities = [\"64500:666\", \"4200000000:666:0\"]\n\
             [[routes.bgp.neighbour]]\nname = \"twin\"\naddress = \"2001:db8::2\"\nas = 64501\npassword = \"hush\"\n\
             ttl-security = true\nadd-path = false\nlimit-ipv4 = 10\nlimit-ipv6 = 20\nlimit-flowspec = 30\n\
             over-limit = \"disconnect\"\n\
             [[routes.bgp.neighbour]]\naddress = \"192.0.2.1\"\n",
        )
        .unwrap();
        assert_eq!(config.router_id, Ipv4Addr::new(192, 0, 2, 9));
        assert_eq!((config.hold_time, config.graceful_restart), (30, false));
        assert!(!config.flowspec_validation);
        assert_eq!(
            config.blackhole_communities,
            [
                Community::Plain(64_500 << 16 | 666),
                Community::Large([4_200_000_000, 666, 0])
            ]
        );
        let [twin, plain] = config.neighbours.as_slice() else {
            panic!()
        };
        assert_eq!((twin.name.as_str(), twin.peer_as), ("twin", 64_501));
        assert_eq!(twin.password.as_ref().unwrap().reveal(), "hush");
        assert!(twin.ttl_security && !twin.add_path && twin.disconnect);
        assert_eq!(
            (twin.limits.ipv4, twin.limits.ipv6, twin.limits.flowspec),
            (10, 20, 30)
        );
        assert_eq!(
            *plain,
            BgpNeighbour::plain("192.0.2.1".parse().unwrap(), 4_200_000_000)
        );
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let section = format!("{SIMPLE}[[routes.bgp.neighbour]]\naddress = \"127.0.0.1\"\n");
        let config = read(&format!("{section}password = \"s3cret\"\n")).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
        let long = "s3cret".repeat(20);
        for line in [
            format!("password = \"{long}\""),
            "password = 53".into(),
            "password = [\"s3cret\"]".into(),
            "password = \"s3cret\" x".into(),
            "password = \"s3cret".into(),
            "pasword = \"s3cret\"".into(),
        ] {
            let error = read(&format!("{section}{line}\n")).unwrap_err();
            assert!(error.contains("line 8, column"), "{error}");
            assert!(!error.contains("s3cret") && !error.contains("53"), "{error}");
        }
    }

    #[test]
    fn mistakes_have_their_place_and_what_to_do() {
        let cases = [
            (
                "listen = \"127.0.0.2\"\nlocal-as = 1",
                "line 4, column 10: `127.0.0.2` is not an address with a port",
            ),
            (
                "listen = \"127.0.0.2:0\"\nlocal-as = 1",
                "is not an address with a port",
            ),
            ("listen = []\nlocal-as = 1", "0 addresses to listen on"),
            ("listen = \"192.0.2.1:179\"\nlocal-as = 1", "nobody may call"),
            ("listen = \"127.0.0.2:1179\"", "the key `local-as` is missing"),
            (
                "listen = \"127.0.0.2:1179\"\nlocal-as = 0",
                "line 5, column 12: local-as = 0 is no AS number",
            ),
            ("listen = \"127.0.0.2:1179\"\nlocal-as = 23456", "is no AS number"),
            (
                "listen = \"127.0.0.2:1179\"\nlocal-as = 1\nhold-time = \"2s\"",
                "line 6, column 13: this hold time",
            ),
            (
                "listen = \"127.0.0.2:1179\"\nlocal-as = 1\nrouter-id = \"0.0.0.0\"",
                "is no BGP identifier",
            ),
            (
                "listen = \"127.0.0.2:1179\"\nlocal-as = 1\nneighbor = 1",
                "did you mean `neighbour`?",
            ),
            (
                "listen = \"127.0.0.2:1179\"\nlocal-as = 1\nblackhole-communities = [\"65535:666\", \"666\"]",
                "line 6, column 39: `666` is not a community",
            ),
        ];
        for (lines, expected) in cases {
            let error = read(&format!("[routes.bgp]\n{lines}\n")).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let cases = [
            (
                "address = \"here\"",
                "line 7, column 11: `here` is not an address",
            ),
            ("address = \"0.0.0.0\"", "nobody calls from 0.0.0.0"),
            (
                "address = \"2001:db8::1\"",
                "cannot reach any address of `listen`",
            ),
            (
                "address = \"127.0.0.1\"\nas = 4294967295",
                "as = 4294967295 is no AS number",
            ),
            ("address = \"127.0.0.1\"\nname = \" \"", "an empty name"),
            (
                "address = \"127.0.0.1\"\nlimit-ipv6 = 0",
                "limit-ipv6 = 0 is out of range",
            ),
            (
                "address = \"127.0.0.1\"\nover-limit = \"ignore\"",
                "allowed here: refuse, disconnect",
            ),
            ("name = \"x\"", "the key `address` is missing"),
            (
                "address = \"127.0.0.1\"\n[[routes.bgp.neighbour]]\naddress = \"127.0.0.1\"",
                "line 9, column 11: the neighbour 127.0.0.1 is configured twice",
            ),
        ];
        for (lines, expected) in cases {
            let error = read(&format!("{SIMPLE}[[routes.bgp.neighbour]]\n{lines}\n")).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}

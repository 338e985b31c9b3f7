use super::*;

const GOOD: &str = r#"
[[interface]]
name = "transit0"
role = "transit"
xdp = "native"
source-check = "off"

[[interface]]
name = "core0"

[routes]
max-age = "5m"
sources = ["kernel"]
sync-timeout = "2m"

[filter]
bogons = false
own-prefixes = ["192.0.2.0/24", "2001:db8::/32"]

[tables]
routes = 20000
next-hops = 128

[api]
socket = "/run/other.sock"
group = "netops"
metrics = "off"
"#;

fn fails(text: &str) -> String {
    match parse("f.toml", text) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(error) => error.to_string(),
    }
}

/// One interface and more text.
fn with(text: &str) -> String {
    fails(&format!("[[interface]]\nname = \"eth0\"\n{text}"))
}

#[test]
fn a_whole_file_is_read() {
    let config = parse("f.toml", GOOD).unwrap();
    assert_eq!(config.interfaces.len(), 2);
    assert_eq!(config.interface("transit0").unwrap().role, Role::Transit);
    assert_eq!(config.interfaces[1], InterfaceConfig::plain("core0"));
    assert_eq!(config.interfaces[1].role, Role::Core);
    assert_eq!(config.interfaces[1].xdp, XdpMode::Native);
    assert_eq!(config.routes.max_age, Duration::from_secs(300));
    assert_eq!(config.routes.sync_timeout, Duration::from_secs(120));
    assert!(!config.filter.bogons);
    assert_eq!(config.filter.own_prefixes.len(), 2);
    assert_eq!((config.tables.routes, config.tables.next_hops), (20_000, 128));
    assert_eq!(config.tables.ipv4_blocks, DEFAULT_TABLES.ipv4_blocks);
    assert_eq!(config.api.metrics, None);
    assert_eq!(config.api.socket, PathBuf::from("/run/other.sock"));
    assert_eq!(config.api.group.as_deref(), Some("netops"));
    assert!(!config.api.page, "there is nothing to serve it on");
}

#[test]
fn what_is_not_written_has_the_same_default_from_file_and_command_line() {
    let file = parse("f.toml", "[[interface]]\nname = \"eth0\"\n").unwrap();
    assert_eq!(file, Config::from_interfaces(&["eth0"]).unwrap());
    assert_eq!(file.routes.max_age, Duration::from_secs(30));
    assert_eq!(file.routes.sync_timeout, Duration::from_secs(300));
    assert!(file.filter.bogons);
    let sizes = file.tables.sizes(8);
    assert_eq!((sizes.slots, sizes.ports, sizes.cpus), (1_499_000, 68, 8));
}

#[test]
fn no_two_cpus_have_counters_in_one_cache_line() {
    for (routes, next_hops, interfaces) in [
        (1_504_000, 8_192, 64),
        (1025, 65, 1),
        (1026, 66, 2),
        (1999, 65_535, 495),
    ] {
        let tables = TablesConfig {
            routes,
            next_hops,
            interfaces,
            source_counters: true,
            ..DEFAULT_TABLES
        };
        let (one, two) = (tables.sizes(1).entries(), tables.sizes(2).entries());
        for ((name, entries, octets), (_, twice, _)) in one.into_iter().zip(two) {
            let own = u64::from(twice - entries) * u64::from(octets);
            assert!(own.is_multiple_of(64), "{name}: {own} octets a CPU");
        }
    }
}

/// What a router with a full table spends in kernel memory: every mmapable map, which is all of FIB, groups, next hops,
/// directories and counters. The redirect map, the hash of own addresses and the log ring are 1 MB beside that; counters
/// by source prefix there are none.
#[test]
fn the_default_tables_keep_within_the_memory_promised() {
    let memory = |cpus| DEFAULT_TABLES.sizes(cpus).memory();
    assert!(memory(2) <= 350_000_000, "{} octets on 2 CPUs", memory(2));
    assert!(memory(16) <= 700_000_000, "{} octets on 16 CPUs", memory(16));
}

#[test]
fn durations_have_a_unit_or_are_zero() {
    let age = |text: &str| {
        parse(
            "f.toml",
            &format!("[[interface]]\nname = \"eth0\"\n[routes]\nmax-age = {text}"),
        )
        .map(|config| config.routes.max_age)
    };
    assert_eq!(age("\"0\"").unwrap(), Duration::ZERO);
    assert_eq!(age("\"500ms\"").unwrap(), Duration::from_millis(500));
    assert_eq!(age("\"1h\"").unwrap(), Duration::from_secs(3600));
    for bad in [
        "\"30\"",
        "\"s\"",
        "\"\"",
        "\"-5s\"",
        "\"30 s\"",
        "\"99999999999999999h\"",
    ] {
        let error = age(bad).unwrap_err().to_string();
        assert!(error.contains("is not a duration: write \"30s\""), "{error}");
    }
    assert!(age("30").unwrap_err().to_string().contains("wrong type"));
}

#[test]
fn an_unknown_key_is_shown_where_it_stands_with_the_allowed_ones() {
    let text = fails("[[interface]]\nname = \"eth0\"\n  rol = \"core\"\n");
    assert_eq!(
        text,
        "f.toml, line 3, column 3: unknown key `rol`\n  3 |   rol = \"core\"\n    |   ^\n  \
         did you mean `role`? Allowed here: name, role, xdp, source-check, flowspec, commit"
    );
    let text = fails("[[interfaces]]\nname = \"eth0\"\n");
    assert!(
        text.starts_with("f.toml, line 1, column 3: unknown key `interfaces`"),
        "{text}"
    );
    assert!(
        text.ends_with(
            "did you mean `interface`? Allowed here: interface, routes, filter, punt, tables, api, history, metrics, account, statistics, samples"
        ),
        "{text}"
    );
}

#[test]
fn an_unknown_word_names_the_allowed_ones() {
    let text = with("role = \"upstream\"");
    assert!(
        text.contains("line 3, column 8: `upstream` is not known here"),
        "{text}"
    );
    assert!(
        text.ends_with("allowed here: transit, peer, core, customer"),
        "{text}"
    );
    let text = with("xdp = \"offload\"");
    assert!(text.ends_with("allowed here: native, generic"), "{text}");
}

#[test]
fn wrong_types_and_syntax_have_their_place() {
    let text = fails("[[interface]]\nname = 5\n");
    assert!(
        text.contains("line 2, column 8: wrong type: integer `5`"),
        "{text}"
    );
    assert!(text.ends_with("write it between double quotes"), "{text}");
    let text = fails("[[interface]]\nrole = \"core\"\n");
    assert!(text.contains("the key `name` is missing"), "{text}");
    assert!(text.contains("line 1, column 1"), "{text}");
    let text = fails("[[interface]\nname = \"eth0\"\n");
    assert!(text.contains("line 1, column"), "{text}");
    let text = with("[filter]\nbogons = \"yes\"");
    assert!(text.contains("line 4, column 10"), "{text}");
    assert!(text.ends_with("write true or false"), "{text}");
}

#[test]
fn interfaces_are_named_once_and_as_the_kernel_allows() {
    let text = fails("");
    assert!(text.starts_with("f.toml: no interface is configured"), "{text}");
    let text = with("[[interface]]\nname = \"eth0\"");
    assert!(
        text.contains("line 4, column 8: interface \"eth0\" is configured twice"),
        "{text}"
    );
    for (name, why) in [
        ("", "it is empty"),
        ("sixteen-letters0", "longer than 15"),
        ("a/b", "it holds '/'"),
        ("a b", "white space"),
        ("..", "reserves"),
    ] {
        let text = fails(&format!("[[interface]]\nname = \"{name}\"\n"));
        assert!(text.contains(why) && text.contains("line 2, column 8"), "{text}");
        assert!(
            Config::from_interfaces(&[name])
                .unwrap_err()
                .to_string()
                .contains(why)
        );
    }
    assert!(Config::from_interfaces::<&str>(&[]).is_err());
    let twice = Config::from_interfaces(&["a", "a"]).unwrap_err().to_string();
    assert!(twice.contains("\"a\" is given twice"), "{twice}");
}

#[test]
fn words_that_are_not_known_are_refused_by_name() {
    let text = with("[routes]\nsources = [\"kernel\", \"bgp\"]");
    assert!(
        text.contains("line 4, column 22: `bgp` is not configured"),
        "{text}"
    );
    let text = with("[routes]\nsources = [\"kernel\", \"kernel\"]");
    assert!(text.contains("`kernel` stands here twice"), "{text}");
    let text = with("source-check = \"lose\"");
    assert!(
        text.ends_with("did you mean `loose`? Allowed here: off, loose, strict, feasible"),
        "{text}"
    );
    let text = with("[routes]\nsources = []");
    assert!(text.contains("no source of routes is named"), "{text}");
    let text = with("[routes]\nsources = [\"static\"]");
    assert!(text.contains("`static` is not a source of routes"), "{text}");
}

#[test]
fn values_out_of_range_name_the_range() {
    let text = with("[tables]\nroutes = 2000001");
    assert!(
        text.contains("line 4, column 10: routes = 2000001 is out of range"),
        "{text}"
    );
    assert!(
        text.contains("1024 to 2000000; without the line it is 1499000"),
        "{text}"
    );
    let text = with("[tables]\nnext-hops = -1");
    assert!(text.contains("next-hops = -1 is out of range"), "{text}");
    let text = with("[tables]\nnext_hops = 100");
    assert!(text.contains("did you mean `next-hops`?"), "{text}");
}

#[test]
fn what_an_interface_is_chooses_how_its_sources_are_checked() {
    let text = "[[interface]]\nname = \"a\"\nrole = \"transit\"\n[[interface]]\nname = \"b\"\nrole = \"peer\"\n\
                [[interface]]\nname = \"c\"\nrole = \"customer\"\n[[interface]]\nname = \"d\"\n\
                [[interface]]\nname = \"e\"\nrole = \"transit\"\nsource-check = \"feasible\"\nflowspec = false\n";
    let config = parse("f.toml", text).unwrap();
    let checks: Vec<_> = config
        .interfaces
        .iter()
        .map(|interface| (interface.source_check.name(), interface.flowspec))
        .collect();
    assert_eq!(
        checks,
        [
            ("loose", true),
            ("loose", true),
            ("strict", true),
            ("off", true),
            ("feasible", false)
        ]
    );
}

#[test]
fn more_bogons_are_prefixes_and_files() {
    let read = |lines: &str| {
        let text = format!("[[interface]]\nname = \"eth0\"\n[filter]\n{lines}");
        parse("f.toml", &text)
            .map(|config| config.filter)
            .map_err(|error| error.to_string())
    };
    let filter =
        read("bogon-prefixes = [\"192.0.2.0/24\"]\nbogon-files = [\"/etc/bogons\"]\nflowspec = false")
            .unwrap();
    assert_eq!(filter.bogon_prefixes, ["192.0.2.0/24".parse().unwrap()]);
    assert_eq!(filter.bogon_files, [PathBuf::from("/etc/bogons")]);
    assert!(!filter.flowspec && filter.bogons);
    for (lines, said) in [
        (
            "bogon-prefixes = [\"0.0.0.0/0\"]",
            "line 4, column 19: `0.0.0.0/0` is every address there is",
        ),
        ("bogon-prefixes = [\"10.0.0.1/8\"]", "write 10.0.0.0/8"),
        (
            "bogon-prefixes = [\"10.0.0.0/8\", \"10.0.0.0/8\"]",
            "line 4, column 33: `10.0.0.0/8` stands here twice",
        ),
        (
            "bogon-files = [\"bogons\"]",
            "line 4, column 16: `bogons` is not an absolute path",
        ),
        ("bogon-files = [\"/b\", \"/b\"]", "`/b` stands here twice"),
        ("bogon-files = \"/b\"", "write it as a list"),
    ] {
        let error = read(lines).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn prefixes_and_addresses_are_checked() {
    let text = with("[filter]\nown-prefixes = [\"192.0.2.1/24\"]");
    assert!(text.contains("has bits set beyond its length") && text.ends_with("write 192.0.2.0/24"));
    let text = with("[filter]\nown-prefixes = [\"192.0.2.0\"]");
    assert!(text.contains("`192.0.2.0` is not a prefix"), "{text}");
    let text = with("[filter]\nown-prefixes = [\"::/0\"]");
    assert!(text.contains("every address there is"), "{text}");
    let text = with("[api]\nmetrics = \"localhost:9177\"");
    assert!(text.contains("is not an address with a port"), "{text}");
    let text = with("[api]\nsocket = \"run.sock\"");
    assert!(text.contains("is not an absolute path"), "{text}");
}

#[test]
fn the_page_is_for_this_machine_unless_somebody_wants_it_elsewhere() {
    let page = |api: &str| {
        let text = format!("[[interface]]\nname = \"eth0\"\n[api]\n{api}");
        parse("f.toml", &text).unwrap().api.page
    };
    assert!(page(""));
    assert!(page("metrics = \"[::1]:9177\""));
    assert!(!page("page = false"));
    assert!(!page("metrics = \"192.0.2.1:9177\""));
    assert!(page("metrics = \"192.0.2.1:9177\"\npage = true"));
    let text = with("[api]\nmetrics = \"off\"\npage = true");
    assert!(
        text.contains("the page is served beside metrics, which are off"),
        "{text}"
    );
    for name in ["", "two words", "-x", "a:b"] {
        let text = with(&format!("[api]\ngroup = \"{name}\""));
        assert!(text.contains("cannot be the name of a group"), "{text}");
    }
}

#[test]
fn a_file_that_is_not_there_is_one_clear_sentence() {
    let error = load(std::path::Path::new("/nonexistent/forwarder.toml"))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("/nonexistent/forwarder.toml: cannot read it: No such file"),
        "{error}"
    );
    assert!(error.contains("forwarder run --interface NAME"), "{error}");
}

#[test]
fn the_fpm_feed_has_frrs_port_on_loopback_unless_told_otherwise() {
    let plain = "[[interface]]\nname = \"eth0\"\n[routes]\nsources = [\"fpm\", \"kernel\"]\n";
    let config = parse("f.toml", &format!("{plain}[routes.fpm]\n")).unwrap();
    assert_eq!(config.routes.fpm, Some(FpmConfig::default()));
    assert_eq!(FpmConfig::default().listen, "127.0.0.1:2620".parse().unwrap());
    let text = format!(
        "{plain}[routes.fpm]\nlisten = \"[::1]:2621\"\nrestart-time = \"0\"\nquiet-time = \"3s\"\n\
         sync-time = \"1m\"\nmax-routes = 500000\noffload = true\n"
    );
    let wanted = FpmConfig {
        listen: "[::1]:2621".parse().unwrap(),
        restart_time: Duration::ZERO,
        quiet_time: Duration::from_secs(3),
        sync_time: Duration::from_secs(60),
        max_routes: 500_000,
        offload: true,
    };
    assert_eq!(parse("f.toml", &text).unwrap().routes.fpm, Some(wanted));
}

#[test]
fn what_is_wrong_with_the_fpm_feed_is_said_with_its_line() {
    let wrong = with("[routes.fpm]\nlisten = \"localhost\"");
    assert!(wrong.contains("line 4, column 10"), "{wrong}");
    assert!(wrong.contains("write address:port, as 127.0.0.1:2620"), "{wrong}");
    let wrong = with("[routes.fpm]\nquiet-time = \"0\"");
    assert!(wrong.contains("a replay has no end of its own"), "{wrong}");
    let wrong = with("[routes.fpm]\nmax-routes = 0");
    assert!(wrong.contains("out of range"), "{wrong}");
    assert!(with("[routes.fpm]\nport = 1").contains("unknown key `port`"));
}

#[test]
fn offload_is_for_a_zebra_whose_routes_are_those_that_are_laid() {
    let parsed = |sources: &str, offload: bool| {
        let text = format!(
            "[[interface]]\nname = \"eth0\"\n[routes]\nsources = {sources}\n[routes.bgp]\nlisten = \"127.0.0.2:1179\"\nlocal-as = 64500\n[routes.fpm]\noffload = {offload}\n"
        );
        parse("f.toml", &text).map(|config| config.routes.fpm.unwrap().offload)
    };
    assert!(parsed("[\"fpm\", \"kernel\"]", true).unwrap());
    assert!(parsed("[\"bgp\", \"fpm\"]", true).unwrap());
    for sources in ["[\"kernel\", \"fpm\"]", "[\"kernel\"]"] {
        let error = parsed(sources, true).unwrap_err().to_string();
        assert!(
            error.contains("line 9") && error.contains("the kernel's routes come before"),
            "{error}"
        );
        assert!(!parsed(sources, false).unwrap());
    }
}

#[test]
fn the_kernels_tables_are_named_in_the_order_in_which_its_rules_ask_them() {
    let tables = |text: &str| {
        let text = format!("[[interface]]\nname = \"eth0\"\n[routes]\ntables = {text}");
        parse("f.toml", &text).map(|config| config.routes.tables.to_string())
    };
    assert_eq!(tables("[100, \"main\"]").unwrap(), "local, 100, main");
    assert_eq!(tables("[\"1000\"]").unwrap(), "local, 1000");
    for (bad, said) in [
        ("[\"mian\"]", "`mian` is not a table of the kernel"),
        ("[0]", "`0` is not a table of the kernel"),
        ("[-1]", "`-1` is not a table of the kernel"),
        ("[4294967296]", "`4294967296` is not a table of the kernel"),
        ("[255]", "table local is always asked first"),
        ("[\"main\", 254]", "`254` stands here twice"),
        ("[]", "0 tables are named"),
        (
            "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]",
            "17 tables are named",
        ),
    ] {
        let text = tables(bad).unwrap_err().to_string();
        assert!(text.contains("line 4") && text.contains(said), "{text}");
    }
    let text = tables("[true]").unwrap_err().to_string();
    assert!(text.contains("a table is \"main\" or a number"), "{text}");
}

#[test]
fn a_list_that_is_bad_or_too_long_is_told_when_the_configuration_is_read() {
    let dir = std::env::temp_dir().join(format!("forwarder-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (file, list) = (dir.join("f.toml"), dir.join("bogons"));
    let text = format!(
        "[[interface]]\nname = \"eth0\"\n[filter]\nbogon-files = [{:?}]\n",
        list.display().to_string()
    );
    std::fs::write(&file, text).unwrap();
    let said = |content: &str| {
        std::fs::write(&list, content).unwrap();
        load(&file).map(drop).map_err(|why| why.to_string())
    };
    assert_eq!(said("; fullbogons\n5.0.0.0/24\n2a00::/32\n"), Ok(()));
    let bad = said("5.0.0.0/24\n5.0.0/24\n").unwrap_err();
    assert!(
        bad.starts_with(&format!(
            "{}, line 2, column 1: `5.0.0/24` is not",
            list.display()
        )),
        "{bad}"
    );
    let many: String = (0..20_000)
        .map(|i| format!("{}.{}.{}.0/25\n", 1 + (i >> 16), i >> 8 & 255, i & 255))
        .collect();
    let full = said(&many).unwrap_err();
    assert!(
        full.starts_with(&format!("{}: the source filter has no room", list.display()))
            && full.contains("the 20000 prefixes here"),
        "{full}"
    );
    std::fs::remove_file(&list).unwrap();
    let gone = load(&file).unwrap_err().to_string();
    assert!(gone.contains("cannot read it: No such file"), "{gone}");
    std::fs::remove_dir_all(&dir).unwrap();
}

//! Which of a kernel's modules the machine loads, and in what order: each after those that it needs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

/// What tests may make or use, with options. Loaded at the start, as nothing in there loads them when they are asked for.
/// Without the options some make a device of their own, which tests that count devices would find.
const WANTED: [(&str, &str); 50] = [
    ("virtio_pci", ""),
    ("virtio_net", ""),
    ("igb", ""),
    ("af_packet", ""),
    ("veth", ""),
    ("dummy", "numdummies=0"),
    ("bonding", "max_bonds=0"),
    ("8021q", ""),
    ("bridge", ""),
    ("br_netfilter", ""),
    ("macvlan", ""),
    ("ipvlan", ""),
    ("vrf", ""),
    ("tun", ""),
    ("ifb", "numifbs=0"),
    ("ipip", ""),
    ("sit", ""),
    ("ip_gre", ""),
    ("ip6_gre", ""),
    ("ip6_tunnel", ""),
    ("vxlan", ""),
    ("wireguard", ""),
    ("inet_diag", ""),
    ("tcp_diag", ""),
    ("udp_diag", ""),
    ("unix_diag", ""),
    ("nf_tables", ""),
    ("nf_conntrack", ""),
    ("nft_ct", ""),
    ("nft_limit", ""),
    ("nft_nat", ""),
    ("nft_masq", ""),
    ("nft_chain_nat", ""),
    ("nft_reject_inet", ""),
    ("nft_fib_inet", ""),
    ("nft_log", ""),
    ("nft_flow_offload", ""),
    ("nf_flow_table", ""),
    ("nf_flow_table_inet", ""),
    ("sch_ingress", ""),
    ("sch_fq", ""),
    ("sch_netem", ""),
    ("sch_prio", ""),
    ("sch_htb", ""),
    ("sch_tbf", ""),
    ("cls_u32", ""),
    ("cls_bpf", ""),
    ("cls_flower", ""),
    ("act_gact", ""),
    ("act_mirred", ""),
];

/// What any machine of these tests must be able to make; without one of these the kernel is the wrong one.
const NEEDED: [&str; 4] = ["veth", "bonding", "8021q", "macvlan"];

/// A module to load.
#[derive(Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// Its file, perhaps compressed.
    pub file: PathBuf,
    /// Its options.
    pub options: &'static str,
}

/// Those wanted that this kernel has as modules, with all that they need, in the order of loading.
///
/// # Errors
/// A file cannot be read, or one that tests cannot do without is missing.
pub fn in_order(modules: &Path) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    collect(modules, &mut files)?;
    let built_in = fs::read_to_string(modules.join("modules.builtin")).unwrap_or_default();
    let built_in: Vec<_> = built_in.lines().map(|line| name_of(Path::new(line))).collect();
    let mut order = Order {
        files,
        modules: Vec::new(),
    };
    for (name, _) in WANTED {
        let there = order.add(name)?;
        if !there && NEEDED.contains(&name) && !built_in.iter().any(|known| known == name) {
            bail!("this kernel has no module {name}: {}", modules.display());
        }
    }
    Ok(order.modules)
}

struct Order {
    files: BTreeMap<String, PathBuf>,
    modules: Vec<Module>,
}

impl Order {
    /// Whether this kernel has it as a module; then it is in the list, behind what it needs.
    fn add(&mut self, name: &str) -> Result<bool> {
        if self.modules.iter().any(|module| module.name == name) {
            return Ok(true);
        }
        // What is not a module is built in, or is not there.
        let Some(file) = self.files.get(name).cloned() else {
            return Ok(false);
        };
        for dependency in dependencies(&octets(&file)?) {
            self.add(&dependency)?;
        }
        let options = WANTED.iter().find(|(wanted, _)| *wanted == name);
        self.modules.push(Module {
            name: name.to_owned(),
            file,
            options: options.map_or("", |(_, options)| options),
        });
        Ok(true)
    }
}

fn collect(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry.with_context(|| dir.display().to_string())?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.to_string_lossy().contains(".ko") {
            files.insert(name_of(&path), path);
        }
    }
    Ok(())
}

/// `kernel/net/8021q/8021q.ko.xz` is 8021q; files are written with hyphens where modules have underscores.
fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split(".ko").next().unwrap_or_default().replace('-', "_")
}

/// A module's octets, uncompressed: the kernel takes no others from a machine without modprobe.
///
/// # Errors
/// It cannot be read or is compressed in a way that we do not know.
pub fn octets(file: &Path) -> Result<Vec<u8>> {
    let end = file.extension().unwrap_or_default().to_string_lossy();
    let program = match &*end {
        "ko" => return fs::read(file).with_context(|| file.display().to_string()),
        "xz" => "xz",
        other => bail!("{}: no way to uncompress .{other}", file.display()),
    };
    let output = Command::new(program)
        .args(["--decompress", "--stdout"])
        .arg(file)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{}: {}",
        file.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}

/// What a module says it needs, `depends=a,b` in its section .modinfo, and what its author asks to have before it.
fn dependencies(octets: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for words in octets.split(|octet| *octet == 0) {
        let Ok(text) = std::str::from_utf8(words) else {
            continue;
        };
        let names: Vec<&str> = if let Some(list) = text.strip_prefix("depends=") {
            list.split(',').collect()
        } else if let Some(list) = text.strip_prefix("softdep=pre: ") {
            list.split(' ').take_while(|word| *word != "post:").collect()
        } else {
            continue;
        };
        found.extend(
            names
                .into_iter()
                .filter(|name| !name.is_empty())
                .map(|name| name.replace('-', "_")),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_after_what_it_needs() {
        let dir = std::env::temp_dir().join(format!("xtask-modules-{}", std::process::id()));
        let net = dir.join("kernel/net");
        fs::create_dir_all(&net).unwrap();
        let write = |name: &str, info: &[u8]| fs::write(net.join(name), info).unwrap();
        write("veth.ko", b"\x7fELF\0license=GPL\0depends=\0");
        write("bonding.ko", b"\x7fELF\0depends=tls\0name=bonding\0");
        write("tls.ko", b"\0depends=\0");
        write("8021q.ko", b"\0depends=garp,mrp\0");
        write("garp.ko", b"\0depends=stp\0");
        write("mrp.ko", b"\0softdep=pre: crc-one post: late\0depends=\0");
        write("crc-one.ko", b"\0depends=\0");
        write("stp.ko", b"\0depends=\0");
        let error = in_order(&dir).unwrap_err();
        assert!(error.to_string().contains("macvlan"), "{error}");

        fs::write(dir.join("modules.builtin"), "kernel/drivers/net/macvlan.ko\n").unwrap();
        let modules = in_order(&dir).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        let names: Vec<_> = modules.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(
            names,
            ["veth", "tls", "bonding", "stp", "garp", "crc_one", "mrp", "8021q"]
        );
        assert_eq!(modules[2].options, "max_bonds=0");
    }
}

//! File systems in memory as volumes: the volume driver `tmpfs`, which all containers know, and Docker's own way to ask
//! for one (`local` with the option `type=tmpfs`).

/// The volume driver that stands for one.
pub const DRIVER: &str = "tmpfs";

/// A file system in memory. What is in it counts as memory of the container, and goes with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tmpfs {
    /// Bytes; absent: half of the machine's memory, as the kernel has it.
    pub size: Option<u64>,
    /// Permission bits of its root; absent: 1777.
    pub mode: Option<u32>,
}

impl Tmpfs {
    /// What the options of the driver `tmpfs` say: `size` and `mode`.
    ///
    /// # Errors
    /// Names the option that is not known, given twice, or of no such form.
    pub fn of_driver(options: &[(String, String)]) -> Result<Self, String> {
        let mut made = Self::default();
        for (key, value) in options {
            match key.as_str() {
                "size" => once(key, &mut made.size, size(value)?)?,
                "mode" => once(key, &mut made.mode, mode(value)?)?,
                _ => return Err(format!("it has no option {}: use size and mode", quoted(key))),
            }
        }
        Ok(made)
    }

    /// What options of Docker's driver `local` say: `type=tmpfs`, `device`, and mount options as `o`. None: they are about
    /// something else.
    ///
    /// # Errors
    /// The same.
    pub fn of_local(options: &[(String, String)]) -> Option<Result<Self, String>> {
        let is_meant = options.iter().any(|(key, value)| key == "type" && value == DRIVER);
        is_meant.then(|| {
            let mut made = Self::default();
            for (key, value) in options {
                match key.as_str() {
                    // A name of no meaning.
                    "type" | "device" => {}
                    "o" => made.read(value)?,
                    _ => return Err(format!("it has no option {}: use o", quoted(key))),
                }
            }
            Ok(made)
        })
    }

    /// As mount(8) takes them.
    fn read(&mut self, options: &str) -> Result<(), String> {
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("size", value)) => once("size", &mut self.size, size(value)?)?,
                Some(("mode", value)) => once("mode", &mut self.mode, mode(value)?)?,
                // It is so anyway.
                None if matches!(option, "nosuid" | "nodev" | "rw") => {}
                _ => {
                    let text = quoted(option);
                    return Err(format!("it has no mount option {text}: use size=, mode=, nosuid, nodev"));
                }
            }
        }
        Ok(())
    }
}

fn once<T>(key: &str, place: &mut Option<T>, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("its option '{key}' is given twice")),
    }
}

/// A whole number of bytes, or of `k`, `m`, `g`, `t` (each 1024 of the one before), with `b` or `ib` behind it or not.
fn size(text: &str) -> Result<u64, String> {
    let bad = || {
        let text = quoted(text);
        format!("its size {text} is none: write a whole number above 0 and b, k, m, g or t")
    };
    let lower = text.to_ascii_lowercase();
    let (number, unit) = lower.split_at(lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len()));
    let power = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(bad()),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1024_u64.pow(power)));
    // 0 is no limit to the kernel, and more than this is no number to the Docker Engine.
    bytes.filter(|bytes| (1..=i64::MAX as u64).contains(bytes)).ok_or_else(bad)
}

/// Octal, as chmod(1) takes it.
fn mode(text: &str) -> Result<u32, String> {
    let digits = !text.is_empty() && text.len() <= 5 && text.chars().all(|c| c.is_digit(8));
    let bits = u32::from_str_radix(text, 8).ok().filter(|bits| digits && (1..=0o1777).contains(bits));
    let bad = || format!("its mode {} is none: write permission bits such as 1777 or 0755", quoted(text));
    bits.ok_or_else(bad)
}

/// What a user wrote, as it may stand in a message.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(64).collect();
    format!("'{}'", short.escape_debug())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn options(options: &[(&str, &str)]) -> Vec<(String, String)> {
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn driver(given: &[(&str, &str)]) -> Result<Tmpfs, String> {
        Tmpfs::of_driver(&options(given))
    }

    #[test]
    fn sizes_have_units_and_modes_are_octal() {
        assert_eq!(driver(&[]), Ok(Tmpfs::default()));
        let sizes =
            [("1", 1), ("512b", 512), ("4K", 4096), ("64m", 64 << 20), ("2GiB", 2 << 30), ("1tb", 1 << 40)];
        for (text, bytes) in sizes {
            assert_eq!(driver(&[("size", text)]).unwrap().size, Some(bytes), "{text}");
        }
        for (text, bits) in [("1777", 0o1777), ("0755", 0o755), ("01777", 0o1777), ("700", 0o700)] {
            assert_eq!(driver(&[("mode", text)]).unwrap().mode, Some(bits), "{text}");
        }
        let local =
            |o: &str| Tmpfs::of_local(&options(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", o)])).unwrap();
        let made = Tmpfs { size: Some(1 << 20), mode: Some(0o700) };
        assert_eq!(local("size=1m,mode=700,nosuid,nodev,"), Ok(made));
        assert_eq!(Tmpfs::of_local(&options(&[("type", "nfs"), ("o", "size=1m")])), None);
    }

    #[test]
    fn hostile_options_are_refused_by_their_name() {
        let bad_sizes = [
            "",
            "0",
            "0g",
            "-1",
            "+1",
            "50%",
            "1.5g",
            " 1",
            "1 m",
            "m",
            "1mm",
            "1e9",
            "64m,mode=777",
            "1\0",
            "\u{661}",
            "18446744073709551616",
            "99999999999999t",
            "8388608t",
            "64m,nr_inodes=1",
            "1m\nsize=2m",
        ];
        for text in bad_sizes {
            let refused = driver(&[("size", text)]).unwrap_err();
            assert!(refused.starts_with("its size '"), "{text:?}: {refused}");
        }
        for text in
            ["", "0", "8", "1778", "2777", "4755", "7777", "-1", "+77", "0x1", "rwx", "777,uid=0", "0000777"]
        {
            assert!(driver(&[("mode", text)]).unwrap_err().starts_with("its mode '"), "{text:?}");
        }
        for key in ["uid", "o", "SIZE", "size ", "huge", "", "mpol", "size\n"] {
            assert!(driver(&[(key, "1")]).unwrap_err().starts_with("it has no option"), "{key:?}");
        }
        assert!(driver(&[("size", "1m"), ("size", "2m")]).unwrap_err().contains("twice"));
        let long = driver(&[("size", &"9".repeat(100_000))]).unwrap_err();
        assert!(long.len() < 200 && !driver(&[("a\nb", "")]).unwrap_err().contains('\n'));
        let local = |o: &str| Tmpfs::of_local(&options(&[("type", "tmpfs"), ("o", o)])).unwrap();
        for o in [
            "suid",
            "dev",
            "uid=0",
            "size=1m,size=2m",
            "size",
            "bind",
            "remount",
            "context=x",
            "size=1m,,mode=9",
        ] {
            assert!(local(o).is_err(), "{o}");
        }
    }

    proptest! {
        #[test]
        fn no_option_text_stops_anything(key in ".{0,9}", value in ".{0,30}") {
            let given = options(&[(&key, &value), ("type", "tmpfs")]);
            let _ = (Tmpfs::of_driver(&given), Tmpfs::of_local(&given));
        }

        #[test]
        fn what_is_read_is_within_bounds(value in "[0-9]{1,21}(|b|k|m|g|t|kb|mib)") {
            if let Ok(made) = driver(&[("size", &value)]) {
                prop_assert!(made.size.is_some_and(|size| size > 0 && i64::try_from(size).is_ok()));
            }
        }
    }
}

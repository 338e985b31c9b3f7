//! Values of a configuration file, read with the sentence for what else may stand there.

use std::{net::SocketAddr, ops::RangeInclusive};

use toml::Spanned;

use super::ConfigError;

pub(super) struct Check<'a> {
    /// The file, as messages call it.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
}

impl Check<'_> {
    pub(super) fn error<T>(&self, at: &Spanned<T>, message: String, advice: &str) -> ConfigError {
        ConfigError::at(self.name, self.text, at.span(), message, advice)
    }

    /// A number within a range, or what it is without the line.
    pub(super) fn number(
        &self,
        key: &str,
        written: Option<&Spanned<i64>>,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> Result<u32, ConfigError> {
        let Some(at) = written else { return Ok(default) };
        let number = u32::try_from(*at.get_ref()).ok();
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            self.error(
                at,
                format!("{key} = {} is out of range", at.get_ref()),
                &format!(
                    "allowed here: {} to {}; without the line it is {default}",
                    range.start(),
                    range.end()
                ),
            )
        })
    }

    /// An address with a port, written at `at`; `examples` of what to write.
    pub(super) fn socket<T>(
        &self,
        at: &Spanned<T>,
        word: &str,
        examples: &str,
    ) -> Result<SocketAddr, ConfigError> {
        let address: Option<SocketAddr> = word.parse().ok();
        address.filter(|address| address.port() != 0).ok_or_else(|| {
            self.error(
                at,
                format!("`{word}` is not an address with a port"),
                &format!("write address:port, as {examples}"),
            )
        })
    }
}

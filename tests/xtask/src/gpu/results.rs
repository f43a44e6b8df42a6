//! Results as lines of JSON in a file, each there for good when the next item begins.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Key of the line that says what the others were measured with.
const RUN: &str = "run";

/// What is known so far, by item. A later line about an item replaces an earlier one.
pub struct Store {
    file: File,
    items: BTreeMap<String, Value>,
}

impl Store {
    /// The results at `path`, which begin with `run`: a new file, with an older one moved aside, or
    /// with `resume` the one that is there.
    ///
    /// # Errors
    /// When the file cannot be used, or was begun with other programs or settings.
    pub fn open(path: &Path, run: Value, resume: bool) -> Result<Self> {
        let cannot = || format!("cannot use {}", path.display());
        if path.exists() && !resume {
            fs::rename(path, path.with_added_extension("previous")).with_context(cannot)?;
        }
        let mut items = BTreeMap::new();
        if path.exists() {
            let text = fs::read_to_string(path).with_context(cannot)?;
            for line in text.lines() {
                // A line that was cut off when the machine went away says nothing.
                let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
                let key = record["key"].as_str().unwrap_or_default().to_owned();
                items.insert(key, record["value"].clone());
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path).with_context(cannot)?;
        let mut store = Self { file, items };
        match store.items.get(RUN) {
            Some(found) if *found == run => {}
            Some(found) => bail!(
                "{} was begun with {found}, this is {run}; without --resume it is begun anew",
                path.display()
            ),
            None => store.append(RUN, run)?,
        }
        Ok(store)
    }

    /// Whether an item is still to be measured: not there, or failed.
    pub fn lacks(&self, key: &str) -> bool {
        self.items.get(key).is_none_or(|value| value.get("error").is_some())
    }

    /// Notes an item's value or failure, and says it on the terminal. A failure comes back as `Err`
    /// only in its message; whoever can go on without the item may.
    pub fn put<T: Serialize>(&mut self, key: &str, result: Result<T>) -> Result<()> {
        match result {
            Ok(value) => self.append(key, serde_json::to_value(value)?),
            Err(error) => {
                let message = format!("{error:#}");
                self.append(key, json!({ "error": message }))?;
                bail!("{key}: {message}")
            }
        }
    }

    /// An item's value; `None` if it is not there or failed.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let value = self.items.get(key).filter(|value| value.get("error").is_none())?;
        serde_json::from_value(value.clone()).ok()
    }

    /// Why an item failed.
    pub fn error(&self, key: &str) -> Option<&str> {
        self.items.get(key)?.get("error")?.as_str()
    }

    fn append(&mut self, key: &str, value: Value) -> Result<()> {
        // Begins a line, so that one that was cut off costs no other.
        let line = format!("\n{}", json!({ "key": key, "value": value }));
        eprintln!("{}", line.trim_start());
        self.file.write_all(line.as_bytes()).context("cannot write the results")?;
        self.file.sync_data().context("cannot write the results")?;
        self.items.insert(key.to_owned(), value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_where_it_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        let mut store = Store::open(&path, json!(1), true).unwrap();
        store.put("a", Ok(1.5)).unwrap();
        assert!(store.put::<f64>("b", Err(anyhow::anyhow!("why"))).is_err());
        drop(store);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"\n{\"key\": \"c").unwrap();

        let mut store = Store::open(&path, json!(1), true).unwrap();
        assert_eq!((store.get("a"), store.lacks("a")), (Some(1.5), false));
        assert_eq!((store.error("b"), store.lacks("b")), (Some("why"), true));
        assert!(store.lacks("c"));
        store.put("b", Ok(2.0)).unwrap();
        let store = Store::open(&path, json!(1), true).unwrap();
        assert_eq!((store.get("b"), store.error("b")), (Some(2.0), None));

        let error = Store::open(&path, json!(2), true).err().unwrap().to_string();
        assert!(error.contains("was begun with 1, this is 2"), "{error}");
        assert!(Store::open(&path, json!(2), false).unwrap().lacks("a"));
        assert!(folder.path().join("results.jsonl.previous").exists());
    }
}

//! Plays a case, in memory or over the network, and hears what the judges say.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use flowproof_reference::machine::Time;
use serde_json::Value;

use super::case::plan_of;
use crate::corpus::{FlowFile, Protocol};
use crate::judge::finding::{Finding, Judge, Ruling};
use crate::runner::plan::RunSettings;
use crate::runner::verdict::{FlowResult, Verdict};
use crate::sinner::Sinner;
use crate::world::{memory, network};

/// What is needed to play cases of one protocol for one role.
#[derive(Clone)]
pub struct Stage {
    /// The protocol.
    pub protocol: Arc<Protocol>,
    /// The role under test.
    pub role: String,
    /// Settings of every conversation.
    pub settings: RunSettings,
}

impl Stage {
    /// The requirement that is broken by a target that dies or answers nobody.
    pub fn survival(&self) -> Option<String> {
        self.protocol.settings.survival.get(&self.role).cloned()
    }

    /// The role under test.
    fn blamed(&self) -> String {
        self.role.clone()
    }

    /// Something found about the target as a whole.
    pub fn about_target(&self, message: String, expected: &str) -> Finding {
        Finding {
            requirement: self.survival(),
            ruling: Ruling::Broken,
            by: self.blamed(),
            judge: Judge::Liveness,
            at: Time::ZERO,
            line: None,
            message,
            expected: expected.to_owned(),
            actual: Value::Null,
        }
    }

    /// Plays a case against the built-in reference, in virtual time. A reference that panics is accused of dying; `Err`
    /// says why the case could not be played.
    pub fn in_memory(
        &self,
        file: &Arc<FlowFile>,
        sinner: Option<&Sinner>,
        stop: &AtomicBool,
    ) -> Result<FlowResult, String> {
        let plan = plan_of(file, &self.protocol, &self.role, &self.settings)?;
        let shared = Rc::new(plan);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            memory::run(Rc::clone(&shared), Arc::clone(&self.protocol), sinner, Time::ZERO, stop)
        }));
        match ran {
            Ok(Ok(outcome)) => Ok(FlowResult::judge(&shared, &self.protocol.catalogue, outcome)),
            Ok(Err(reason)) => Err(reason),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                let message =
                    format!("{} ended by itself: it panicked: {}", self.role, text.unwrap_or_default());
                let mut result = FlowResult::not_run(
                    &shared.name,
                    &shared.file.path,
                    &self.role,
                    Verdict::Fail,
                    String::new(),
                );
                result.reason = None;
                result.findings.push(self.about_target(message, "that it goes on running"));
                Ok(result)
            }
        }
    }

    /// Plays a case over the network.
    pub async fn over_network(
        &self,
        file: Arc<FlowFile>,
        place: network::Place,
        began: Instant,
        stop: Arc<AtomicBool>,
    ) -> Result<FlowResult, String> {
        let plan = Rc::new(plan_of(&file, &self.protocol, &self.role, &self.settings)?);
        let protocol = Arc::clone(&self.protocol);
        let ran = network::run(Rc::clone(&plan), protocol, &place, began, stop).await?;
        let mut result = FlowResult::judge(&plan, &self.protocol.catalogue, ran.outcome);
        for (participant, how) in ran.deaths {
            let message = format!("{participant} ended by itself: {how}");
            result.findings.push(self.about_target(message, "that it goes on running"));
            result.verdict = Verdict::Fail;
        }
        Ok(result)
    }
}

/// Memory that a program and its children take, in bytes; none where that cannot be seen.
pub fn resident(process: u32) -> Option<u64> {
    let mut sum = 0;
    let mut all = vec![process];
    while let Some(one) = all.pop() {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{one}/status")) else { continue };
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        sum += kib.unwrap_or(0) * 1024;
        let children =
            std::fs::read_to_string(format!("/proc/{one}/task/{one}/children")).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    (sum > 0).then_some(sum)
}

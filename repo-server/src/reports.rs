//! Reports: signed by devices and managers, relayed by managers, read by authors.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use aws_lc_rs::digest::{SHA256, digest};
use protocol::author::{RelayedReport, ReportPage};
use protocol::device::ReportsTaken;
use protocol::limits::MAX_REPORTS;
use protocol::{Identity, Report, Role};
use tracing::{info, warn};
use tuf::Digest;

use crate::counters::add;
use crate::db::ReportRow;
use crate::limits::{OUTCOMES_AGE, REPORT_PAGE, REPORT_PAGE_BYTES};
use crate::refusal::chain;
use crate::{Refusal, Repository};

/// `SubjectPublicKeyInfo` of a P-256 key (RFC 5480) up to the point.
const P256_SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// How many devices reported each outcome, per `COMPONENT VERSION`.
pub(crate) type Outcomes = BTreeMap<String, BTreeMap<String, u64>>;

impl Repository {
    /// What was reported about each version, at most [`OUTCOMES_AGE`] old.
    pub(crate) fn outcomes(&self) -> Result<Arc<Outcomes>, Refusal> {
        let mut kept = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((made, outcomes)) if made.elapsed() < OUTCOMES_AGE => Ok(Arc::clone(outcomes)),
            _ => {
                let outcomes = Arc::new(self.reader().outcomes()?);
                *kept = Some((Instant::now(), Arc::clone(&outcomes)));
                Ok(outcomes)
            }
        }
    }

    /// Stores what is new, durable on return. A report that does not verify can never become right: it is
    /// noted and left out, so that it does not hold up the ones behind it.
    ///
    /// # Errors
    /// Too many reports; those of the disk.
    pub fn take_reports(
        &self,
        manager: &Identity,
        reports: &[RelayedReport],
    ) -> Result<ReportsTaken, Refusal> {
        if reports.len() > MAX_REPORTS {
            return Err(Refusal::Malformed(format!(
                "more than {MAX_REPORTS} reports in one request"
            )));
        }
        let mut believed = Vec::new();
        for relayed in reports {
            match self.believe(manager, relayed) {
                Ok(report) => believed.push((relayed, report)),
                Err(reason) => {
                    add(&self.counters.bad_reports, 1);
                    warn!(%manager, sender = %relayed.sender, reason, "a report is not believed and left out");
                }
            }
        }
        let received = self.now();
        let mut core = self.core();
        let (mut count, mut bytes) = core.database.report_totals()?;
        let change = core.database.begin()?;
        let (mut stored, through_whom) = (0, manager.to_string());
        for (relayed, report) in &believed {
            let body = serde_json::to_string(relayed).map_err(anyhow::Error::new)?;
            let sender = relayed.sender.to_string();
            let about = report
                .events
                .first()
                .map(|event| format!("{} {}", event.component, event.version));
            let row = ReportRow {
                digest: Digest::of(relayed.report.report.as_bytes()),
                sender: &sender,
                manager: &through_whom,
                counter: report.counter,
                received,
                version: about,
                outcome: report.outcome.map(|outcome| outcome.to_string()),
                body: &body,
            };
            let twin = change.same_counter(&sender, report.counter)?;
            if !change.put_report(&row)? {
                continue;
            }
            if twin > 0 {
                warn!(
                    sender,
                    counter = report.counter,
                    "two different reports under one counter: two machines, or a copied key"
                );
            }
            (stored, count, bytes) = (stored + 1, count + 1, bytes + body.len() as u64);
        }
        while count > self.limits.kept_reports || bytes > self.limits.kept_report_bytes {
            let Some(freed) = change.drop_oldest_report()? else {
                break;
            };
            (count, bytes) = (count - 1, bytes.saturating_sub(freed));
        }
        change.commit()?;
        drop(core);
        add(&self.counters.reports, stored);
        if stored > 0 {
            info!(%manager, stored, "reports stored");
        }
        let through = believed
            .iter()
            .map(|(_, report)| report.counter)
            .max()
            .unwrap_or(0);
        Ok(ReportsTaken { through })
    }

    /// Checks one report's sender, key and signature.
    fn believe(&self, manager: &Identity, relayed: &RelayedReport) -> Result<Report, String> {
        let sender = &relayed.sender;
        if sender.site != self.identity.site {
            return Err(format!("it is of site {}", sender.site));
        }
        let may_send = match sender.role {
            Role::Device => true,
            Role::Manager => sender == manager,
            Role::Author | Role::Repository => false,
        };
        if !may_send {
            return Err(format!("{manager} may not pass on reports of {sender}"));
        }
        let point = hex::decode(&relayed.public_key).map_err(|_| "its key is not hexadecimal".to_owned())?;
        if point.len() != 65 || point.first() != Some(&4) {
            return Err("its key is not an uncompressed P-256 point".to_owned());
        }
        let spki = [&P256_SPKI_HEAD[..], &point].concat();
        if digest(&SHA256, &spki).as_ref() != relayed.report.key.as_bytes() {
            return Err("it names another key than the one it comes with".to_owned());
        }
        // Gateways of earlier versions passed reports on without it; the author's desk does not believe those.
        if !relayed.chain.is_empty() {
            let vouched = self.vouchers.key_of(&relayed.chain, sender);
            let vouched = vouched.map_err(|refusal| refusal.to_string())?;
            if vouched.public_key != point {
                return Err("its sender's certificate is for another key".to_owned());
            }
        }
        relayed
            .report
            .verify(&point, sender)
            .map_err(|error| chain(&error))
    }

    /// A page of reports after `after`, oldest first; with `newest`, of the newest so many only: who asks for the first
    /// time wants to know what is, not what was a year ago.
    ///
    /// # Errors
    /// Those of the database.
    pub fn reports(&self, after: u64, limit: u64, newest: Option<u64>) -> Result<ReportPage, Refusal> {
        let reader = self.reader();
        let after = match newest {
            Some(newest) => after.max(reader.newest_report()?.saturating_sub(newest)),
            None => after,
        };
        let reports = reader.reports(after, limit.clamp(1, REPORT_PAGE), REPORT_PAGE_BYTES)?;
        let next = reports.last().map_or(after, |report| report.seq);
        Ok(ReportPage { reports, next })
    }
}

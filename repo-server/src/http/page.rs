//! `/`: what is here, for people. No script, nothing from elsewhere; works in any browser.

use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use release::{Component, Version, Withdrawn};
use serde::{Deserialize, Serialize};
use tuf::{Digest, UnixTime};

use super::{App, blocking};
use crate::limits::PAGE_VERSIONS;
use crate::listing::Entry;
use crate::reports::Outcomes;
use crate::visible::Visible;
use crate::{Refusal, Repository};

const STYLE: &str = include_str!("page.css");

#[derive(Debug, Deserialize)]
pub(crate) struct Filter {
    /// Part of a component's name.
    #[serde(default)]
    component: String,
    /// All versions instead of the newest few.
    #[serde(default)]
    all: Option<String>,
}

/// One release for programs: `GET /api/v1/releases`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    component: Component,
    version: Version,
    newest: bool,
    target: String,
    path: String,
    length: u64,
    digest: Digest,
    released: UnixTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    withdrawn: Option<Withdrawn>,
}

/// The same as the page, as JSON; newest first within each component.
pub(crate) async fn releases(State(app): State<App>) -> Json<Vec<Row>> {
    let visible = app.repository.visible();
    let mut rows = Vec::new();
    for (component, entries) in visible.listing.components() {
        let newest = visible.listing.newest(component);
        rows.extend(entries.into_iter().map(|entry| Row {
            component: component.clone(),
            version: entry.release.version.clone(),
            newest: is_newest(entry, newest),
            target: entry.name.clone(),
            path: link(entry),
            length: entry.length,
            digest: entry.sha256,
            released: entry.release.released,
            withdrawn: entry.release.withdrawn.clone(),
        }));
    }
    Json(rows)
}

pub(crate) async fn page(
    State(app): State<App>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(filter) = filter.map_err(|error| Refusal::Malformed(error.body_text()))?;
    let repository: Arc<Repository> = app.repository.clone();
    let outcomes = blocking(move || repository.outcomes()).await?;
    let page = Page {
        site: app.repository.site().as_str(),
        name: app.repository.identity().name.as_str(),
        now: app.repository.now(),
        visible: &app.repository.visible(),
        outcomes: &outcomes,
        filter: &filter,
    };
    let style = BASE64_STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    );
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (CACHE_CONTROL, "no-cache".to_owned()),
        (CONTENT_SECURITY_POLICY, policy),
    ];
    Ok((headers, page.html()).into_response())
}

struct Page<'a> {
    site: &'a str,
    name: &'a str,
    now: UnixTime,
    visible: &'a Visible,
    outcomes: &'a Outcomes,
    filter: &'a Filter,
}

/// Text from a release, safe between tags and in attributes.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A time for people, with its exact form for programs.
struct Moment(UnixTime);

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let exact = self.0.to_string();
        let (day, hour) = (
            exact.get(..10).unwrap_or(&exact),
            exact.get(11..16).unwrap_or_default(),
        );
        write!(f, "<time datetime=\"{exact}\">{day} {hour} UTC</time>")
    }
}

impl Page<'_> {
    fn html(&self) -> String {
        let (site, name) = (Escaped(self.site), Escaped(self.name));
        let mut body = String::new();
        self.roles(&mut body);
        let wanted = self.filter.component.to_lowercase();
        let mut shown = 0;
        for (component, entries) in self.visible.listing.components() {
            if component.as_str().to_lowercase().contains(&wanted) {
                shown += 1;
                self.component(&mut body, component, &entries);
            }
        }
        if shown == 0 {
            body.push_str("<section class=\"card\"><p>No release here.</p></section>");
        }
        let value = Escaped(&self.filter.component);
        format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>Repository of {site}</title><style>{STYLE}</style></head><body><main>\
             <h1>Repository of {site}</h1>\
             <p>{name}, at {now}. What is listed here was signed by its author and verified as a client does.</p>\
             <form method=\"get\" action=\"/\"><label for=\"component\">Component</label>\
             <input id=\"component\" name=\"component\" value=\"{value}\"><button>Filter</button></form>\
             {body}<footer><a href=\"/api/v1/releases\">As JSON</a> · <a href=\"/api/v1/openapi.json\">Interface (OpenAPI)</a></footer>\
             </main></body></html>",
            now = Moment(self.now),
        )
    }

    /// Versions and ends of the metadata.
    fn roles(&self, out: &mut String) {
        let visible = self.visible;
        if visible.recovering {
            out.push_str(
                "<section class=\"card alarm\"><b>Restored from a backup</b> Nothing is signed until the author or \
                 a manager has handed back the newest targets roles.</section>",
            );
        }
        let [root, timestamp, snapshot, targets] = visible.versions;
        out.push_str("<section class=\"card\"><h2>Metadata</h2><div class=\"roles\">");
        for (role, version, until) in [
            ("root", root, visible.root_until),
            ("targets", targets, visible.targets_until),
            ("snapshot", snapshot, visible.online_until),
            ("timestamp", timestamp, visible.online_until),
        ] {
            let over = until.is_some_and(|until| until <= self.now);
            let class = if over { " class=\"over\"" } else { "" };
            let until = match until {
                _ if version == 0 => "none yet".to_owned(),
                Some(until) if over => format!("<span class=\"alarm\">expired {}</span>", Moment(until)),
                Some(until) => format!("until {}", Moment(until)),
                None => String::new(),
            };
            let _ = write!(out, "<div{class}><b>{role}</b>version {version}<br>{until}</div>");
        }
        out.push_str("</div></section>");
    }

    fn component(&self, out: &mut String, component: &Component, entries: &[&Entry]) {
        let newest = self.visible.listing.newest(component);
        let name = Escaped(component.as_str());
        let _ = write!(
            out,
            "<section class=\"card\"><h2>{name}</h2><div class=\"scroll\"><table><thead><tr><th>Version</th>\
             <th>Released</th><th>Size</th><th>File and SHA-256</th><th>Reported</th></tr></thead><tbody>"
        );
        let most = if self.filter.all.is_some() {
            usize::MAX
        } else {
            PAGE_VERSIONS
        };
        for entry in entries.iter().take(most) {
            self.row(out, entry, newest);
        }
        out.push_str("</tbody></table></div>");
        if entries.len() > most {
            let count = entries.len();
            let _ = write!(
                out,
                "<p><a href=\"/?component={name}&amp;all=1\">All {count} versions</a></p>"
            );
        }
        out.push_str("</section>");
    }

    fn row(&self, out: &mut String, entry: &Entry, newest: Option<&Version>) {
        let release = &entry.release;
        let mut tags = String::new();
        if is_newest(entry, newest) {
            tags.push_str("<span class=\"tag newest\">newest</span>");
        }
        if let Some(withdrawn) = &release.withdrawn {
            let reason = Escaped(&withdrawn.reason);
            let _ = write!(
                tags,
                "<span class=\"tag withdrawn\">withdrawn</span><p>{reason}</p>"
            );
        }
        let facts: Vec<String> = [&release.vendor, &release.description, &release.license]
            .into_iter()
            .flatten()
            .map(|text| Escaped(text).to_string())
            .chain(release.arch.map(|arch| arch.as_str().to_owned()))
            .collect();
        let key = format!("{} {}", release.component, release.version);
        let reported: Vec<String> = self
            .outcomes
            .get(&key)
            .into_iter()
            .flatten()
            .map(|(outcome, number)| format!("{number} {}", Escaped(outcome)))
            .collect();
        let class = if release.withdrawn.is_some() {
            " class=\"gone\""
        } else {
            ""
        };
        let _ = write!(
            out,
            "<tr{class}><td class=\"number\"><b>{version}</b>{tags}</td><td class=\"number\">{released}</td>\
             <td class=\"number\">{size}</td><td class=\"facts\"><a href=\"{href}\">{file}</a><p>{facts}</p><code>{digest}</code></td>\
             <td class=\"reported\">{reported}</td></tr>",
            version = Escaped(&release.version.to_string()),
            released = Moment(release.released),
            size = size(entry.length),
            href = Escaped(&link(entry)),
            file = Escaped(&release.file_name),
            facts = facts.join(" · "),
            digest = entry.sha256,
            reported = reported.join("<br>"),
        );
    }
}

fn is_newest(entry: &Entry, newest: Option<&Version>) -> bool {
    newest == Some(&entry.release.version) && entry.release.withdrawn.is_none()
}

/// Where a target is served, as a path; names are made of characters that need no encoding or are encoded.
fn link(entry: &Entry) -> String {
    let path = tuf::target_path(&entry.name, &entry.sha256);
    let mut link = "/targets/".to_owned();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/+".contains(&byte) {
            link.push(char::from(byte));
        } else {
            let _ = write!(link, "%{byte:02X}");
        }
    }
    link
}

/// Bytes as people read them: `3.2 MB`.
fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 10_000 && unit + 1 < units.len() {
        tenths /= 1000;
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or("B");
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_become_markup() {
        let text = "<script>alert(\"1\")</script>&'";
        let escaped = Escaped(text).to_string();
        assert_eq!(
            escaped,
            "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;"
        );
    }

    #[test]
    fn sizes_are_readable() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (3_249_000, "3.2 MB"),
            (8 << 30, "8.5 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}

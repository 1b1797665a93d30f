//! `ps --filter`: which workloads are meant, in docker's words. Of one kind any may match, of several kinds all must.

use std::str::FromStr;

use hypercore_model::WorkloadStatus;

use crate::view::{WorkloadView, familiar};

/// One `--filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Filter {
    Status(WorkloadStatus),
    /// A label, whatever its value.
    Label(String),
    LabelValue(String, String),
    /// A part of the name.
    Name(String),
    /// The image as people write it, with or without its tag.
    Image(String),
    /// A prefix of the id.
    Id(String),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || "write status=, label=, name=, image= or id=, and what it is to be".to_owned();
        let (key, value) = text.split_once('=').ok_or_else(form)?;
        match key {
            _ if value.is_empty() => Err(form()),
            "status" => status(value).map(Self::Status),
            "label" => Ok(match value.split_once('=') {
                Some((key, value)) => Self::LabelValue(key.to_owned(), value.to_owned()),
                None => Self::Label(value.to_owned()),
            }),
            "name" => Ok(Self::Name(value.to_owned())),
            "image" | "ancestor" => Ok(Self::Image(value.to_owned())),
            "id" => Ok(Self::Id(value.to_owned())),
            _ => Err(form()),
        }
    }
}

fn status(text: &str) -> Result<WorkloadStatus, String> {
    // Docker's word for what we call stopped.
    let text = if text == "exited" { "stopped" } else { text };
    WorkloadStatus::ALL.into_iter().find(|status| status.as_str() == text).ok_or_else(|| {
        let known: Vec<_> = WorkloadStatus::ALL.iter().map(|status| status.as_str()).collect();
        format!("a status is one of {}", known.join(", "))
    })
}

impl Filter {
    /// Whether it asks for a status.
    pub(super) const fn is_about_status(&self) -> bool {
        matches!(self, Self::Status(_))
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Status(_) => 0,
            // Each label narrows, as with docker.
            Self::Label(_) | Self::LabelValue(..) => 1,
            Self::Name(_) => 2,
            Self::Image(_) => 3,
            Self::Id(_) => 4,
        }
    }

    fn matches(&self, workload: &WorkloadView) -> bool {
        match self {
            Self::Status(status) => workload.status == *status,
            Self::Label(key) => workload.labels.contains_key(key),
            Self::LabelValue(key, value) => workload.labels.get(key) == Some(value),
            Self::Name(part) => workload.name.as_ref().is_some_and(|name| name.contains(part)),
            Self::Image(image) => {
                let shown = familiar(&workload.image);
                let untagged = shown.rsplit_once(':').map_or(shown.as_str(), |(name, _)| name);
                *image == workload.image || *image == shown || image == untagged
            }
            Self::Id(prefix) => workload.id.starts_with(prefix),
        }
    }
}

/// Whether a workload is meant.
pub(super) fn passes(filters: &[Filter], workload: &WorkloadView) -> bool {
    filters.iter().all(|filter| {
        let is_label = matches!(filter, Filter::Label(_) | Filter::LabelValue(..));
        let mut of_kind = filters.iter().filter(|other| other.kind() == filter.kind());
        if is_label { filter.matches(workload) } else { of_kind.any(|other| other.matches(workload)) }
    })
}

#[cfg(test)]
mod tests {
    use hypercore_api::v1;

    use super::*;

    fn web() -> WorkloadView {
        let request = v1::VmSpawnRequest {
            image_ref: "docker.io/library/web:1".into(),
            name: "web-1".into(),
            labels: [("tier".to_owned(), "front".to_owned()), ("x".to_owned(), String::new())].into(),
            ..Default::default()
        };
        WorkloadView::new(&v1::WorkloadState {
            id: "1b4e28ba-2fa1-41d2-883f-0016d3cca427".into(),
            source_request: Some(request),
            status: v1::WorkloadStatus::Running.into(),
            ..Default::default()
        })
    }

    fn is_meant(texts: &[&str]) -> bool {
        let filters: Vec<Filter> = texts.iter().map(|text| text.parse().unwrap()).collect();
        passes(&filters, &web())
    }

    #[test]
    fn several_of_a_kind_widen_but_labels_narrow() {
        assert!(is_meant(&[]));
        assert!(is_meant(&["status=exited", "status=running", "label=x", "label=tier=front"]));
        assert!(!is_meant(&["status=paused"]));
        assert!(!is_meant(&["label=x", "label=tier=back"]));
    }

    #[test]
    fn names_images_and_ids_are_matched_as_people_write_them() {
        for text in ["name=web", "image=web", "ancestor=web:1", "image=docker.io/library/web:1", "id=1b4e"] {
            assert!(is_meant(&[text]), "{text}");
        }
        for text in ["name=db", "image=web:2", "id=b4e"] {
            assert!(!is_meant(&[text]), "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_is_told() {
        for text in ["", "status", "status=", "status=fine", "colour=red"] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }
}

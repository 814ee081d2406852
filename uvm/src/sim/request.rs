//! Requests for mappings, good and bad, and what the model makes of them.

use alloc::vec::Vec;
use core::ops::Range;

use crate::addr::{PageIndex, VirtAddr};
use crate::map::{Inherit, MapRequest, Placement, Sharing, USER_MAX, VmError};
use crate::prot::Prot;
use crate::sim::lwp::Lwp;
use crate::sim::mapping::PAGE;
use crate::sim::model::{Content, ModelPage, Risk};
use crate::sim::op::{Flaw, Mapping, Seen, Shows};

fn private(contents: Vec<Content>) -> Vec<Content> {
    contents.iter().map(Content::private).collect()
}

/// `count` pages of an object from `first` on.
fn of(all: &[Content], first: u64, count: u64) -> Vec<Content> {
    let content = |i: u64| all.get(i as usize).cloned().unwrap_or(Content::Beyond);
    (first..first + count).map(content).collect()
}

impl Lwp {
    /// The request for a mapping, and the pages that it makes.
    pub(super) fn request(&self, mapping: &Mapping) -> (MapRequest, Vec<ModelPage>) {
        let (pages, prot) = (&mapping.pages, mapping.prot);
        let count = pages.end - pages.start;
        let len = (count * PAGE) as usize;
        let mut max_prot = mapping.max_prot;
        let mut risks = alloc::vec![Risk::None; count as usize];
        let (mut request, contents): (_, Vec<Content>) = match mapping.shows {
            Shows::Private => (
                MapRequest::anonymous(len, prot),
                pages.clone().map(|_| Content::zeroes()).collect(),
            ),
            Shows::Shared => (
                MapRequest::anonymous(len, prot).shared(),
                pages.clone().map(|_| Content::shared()).collect(),
            ),
            Shows::File(file, first, seen) => {
                let file = &self.shared.files[file];
                let object = file.object.object().clone();
                let request = MapRequest::object(object, PageIndex(first), len, prot);
                risks = (first..first + count).map(|i| file.risk(i)).collect();
                let contents: Vec<_> = (first..first + count).map(|i| file.content(i)).collect();
                match seen {
                    Seen::Alone => (request, private(contents)),
                    Seen::ByAll => {
                        max_prot.remove(Prot::WRITE);
                        (request.shared(), contents)
                    }
                }
            }
            Shows::Object(object, first, seen) => {
                let (object, all) = &self.shared.objects[object];
                let request = MapRequest::object(object.clone(), PageIndex(first), len, prot);
                let contents = of(all, first, count);
                match seen {
                    Seen::Alone => (request, private(contents)),
                    Seen::ByAll => (request.shared(), contents),
                }
            }
            Shows::Written(first, seen) => {
                let (object, all) = &self.shared.written;
                let object = object.object().clone();
                let request = MapRequest::object(object, PageIndex(first), len, prot);
                let contents = of(all, first, count);
                match seen {
                    Seen::Alone => (request, private(contents)),
                    Seen::ByAll => (request.shared(), contents),
                }
            }
            Shows::Device(first) => {
                let (object, all) = &self.shared.device;
                let request = MapRequest::object(object.clone(), PageIndex(first), len, prot);
                (request.shared(), of(all, first, count))
            }
            Shows::Stack => (
                MapRequest::anonymous(len, prot).growing(),
                pages.clone().map(|_| Content::zeroes()).collect(),
            ),
        };
        let stack = (mapping.shows == Shows::Stack).then_some(pages.end);
        if let Some(wanted) = mapping.inherit {
            request.inherit = wanted;
        }
        let inherit = request.inherit;
        request.max_prot = mapping.max_prot;
        let private = request.sharing == Sharing::Private;
        let page = |(content, risk): (Content, Risk)| ModelPage {
            private,
            prot,
            max_prot,
            inherit,
            // Children to come will share it.
            content: if inherit == Inherit::Share {
                content.shareable()
            } else {
                content
            },
            risk,
            wired: 0,
            stack,
        };
        let made = contents.into_iter().zip(risks).map(page).collect();
        (request, made)
    }

    /// A mapping that must be refused.
    pub(super) fn map_badly(&self, flaw: Flaw, pages: Range<u64>) {
        let len = ((pages.end - pages.start) * PAGE) as usize;
        let at = VirtAddr::new(pages.start * PAGE);
        let good = MapRequest::anonymous(len, Prot::RW).at(Placement::Fixed(at));
        let fixed = |va| Placement::Fixed(VirtAddr::new(va));
        let file = &self.shared.files[0].object;
        let (request, wanted) = match flaw {
            Flaw::Empty => (MapRequest { len: 0, ..good }, VmError::Invalid),
            Flaw::TooLong => {
                let len = USER_MAX as usize + len;
                (MapRequest { len, ..good }, VmError::Invalid)
            }
            Flaw::Unaligned => (good.at(fixed(pages.start * PAGE + 8)), VmError::Invalid),
            Flaw::TooLow => (good.at(fixed(0xf000)), VmError::Invalid),
            Flaw::TooHigh => {
                let at = fixed(USER_MAX + PAGE - len as u64);
                (good.at(at), VmError::Invalid)
            }
            Flaw::TooMuch => {
                let max_prot = Prot::READ;
                (MapRequest { max_prot, ..good }, VmError::Protection)
            }
            Flaw::Offset => {
                let object = self.shared.objects[0].0.clone();
                let request = MapRequest::object(object, PageIndex(u64::MAX), len, Prot::READ);
                (request.at(Placement::Fixed(at)), VmError::Invalid)
            }
            Flaw::SharedFile => {
                let object = file.object().clone();
                let request = MapRequest::object(object, PageIndex(0), len, Prot::RW).shared();
                (request.at(Placement::Fixed(at)), VmError::Protection)
            }
            Flaw::PrivateDevice => {
                let object = self.shared.device.0.clone();
                let request = MapRequest::object(object, PageIndex(0), len, Prot::READ);
                (request.at(Placement::Fixed(at)), VmError::Invalid)
            }
            Flaw::SharedStack => (good.shared().growing(), VmError::Invalid),
        };
        let got = self.process.space.map(request);
        if got != Err(wanted) {
            self.fail(format_args!("{flaw:?}: {got:?}, expected {wanted:?}"));
        }
    }
}

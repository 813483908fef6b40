//! From addresses to functions.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use blazesym::{
    MaybeDefault,
    symbolize::{
        Input, Sym, Symbolized, Symbolizer,
        source::{Elf, Kernel, Source},
    },
};
use hotlb_sys::clock::Deadline;
use hotlb_values::profile::{Frame, FrameKind};

use super::{
    budget::Used,
    functions::Functions,
    module::{ModuleId, Modules},
    perf_map,
    stacks::Address,
};

/// How long finding names may take; what has none by then stays without.
const PATIENCE: Duration = Duration::from_secs(30);

/// The functions at addresses: one, or several where the compiler copied functions into each
/// other; outermost first.
pub(super) type Names = HashMap<Address, Vec<Frame>>;

/// Finds names; remembers what is less than it should be.
pub(super) struct Namer<'a> {
    modules: &'a Modules,
    symbolizer: Symbolizer,
    deadline: Deadline,
    pub(super) notes: Vec<String>,
}

impl<'a> Namer<'a> {
    /// One for addresses in these modules.
    pub(super) fn new(modules: &'a Modules) -> Self {
        let symbolizer = Symbolizer::builder()
            .enable_code_info(true)
            .enable_inlined_fns(true)
            .enable_auto_reload(false)
            .build();
        Self {
            modules,
            symbolizer,
            deadline: Deadline::after(PATIENCE),
            notes: Vec::new(),
        }
    }

    /// The functions at all of `addresses`.
    pub(super) fn names(&mut self, addresses: impl Iterator<Item = Address>) -> Names {
        let mut kernel = Vec::new();
        let mut files: BTreeMap<ModuleId, Vec<u64>> = BTreeMap::new();
        let mut jit: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        let mut names = Names::new();
        for address in addresses {
            match address {
                Address::Kernel(address) => kernel.push(address),
                Address::File { module, offset } => files.entry(module).or_default().push(offset),
                Address::Jit { pid, address } => jit.entry(pid).or_default().push(address),
                Address::Unknown => drop(names.insert(address, vec![note("[unknown]")])),
                Address::Runnable => drop(names.insert(address, vec![note("[runnable]")])),
                Address::Truncated => drop(names.insert(address, vec![note("[truncated]")])),
            }
        }
        self.kernel(&kernel, &mut names);
        for (module, offsets) in files {
            self.file(module, &offsets, &mut names);
        }
        for (pid, addresses) in jit {
            self.jit(pid, &addresses, &mut names);
        }
        names
    }

    fn kernel(&mut self, addresses: &[u64], names: &mut Names) {
        let kernel = Kernel {
            vmlinux: MaybeDefault::None,
            debug_syms: false,
            ..Kernel::default()
        };
        let found = self.found(&Source::Kernel(kernel), &Input::AbsAddr(addresses));
        if !addresses.is_empty() && found.iter().all(Option::is_none) {
            self.notes.push(
                "the kernel's functions have no names: /proc/kallsyms shows no addresses; set \
                 kernel.kptr_restrict to 0 or 1, or give the agent CAP_SYSLOG"
                    .to_owned(),
            );
        }
        for (&address, found) in addresses.iter().zip(found) {
            let frame = found.and_then(|mut found| found.pop());
            let name = frame.map_or_else(|| "[kernel]".to_owned(), |frame| frame.name);
            let frame = Frame {
                name,
                module: None,
                kind: FrameKind::Kernel,
            };
            names.insert(Address::Kernel(address), vec![frame]);
        }
    }

    fn file(&mut self, id: ModuleId, offsets: &[u64], names: &mut Names) {
        let Some(module) = self.modules.get(id) else {
            return;
        };
        let why_not = if Used::now().is_too_large() {
            Some("more memory than the sampling may have")
        } else if self.deadline.left().is_none() {
            Some("longer than it may")
        } else {
            None
        };
        let found = if let Some(why_not) = why_not {
            self.notes.push(format!(
                "the functions of {} have no names: finding them takes {why_not}",
                module.name
            ));
            vec![None; offsets.len()]
        } else {
            let mut source = Elf::new(module.path());
            source.debug_syms = module.may_name_files();
            self.found(&Source::Elf(source), &Input::FileOffset(offsets))
        };
        let functions = Functions::of(module);
        for (&offset, found) in offsets.iter().zip(found) {
            let mut frames = found.unwrap_or_else(|| vec![functions.nameless(module, offset)]);
            for frame in &mut frames {
                frame.module = Some(module.name.clone());
            }
            names.insert(Address::File { module: id, offset }, frames);
        }
    }

    fn jit(&mut self, pid: u32, addresses: &[u64], names: &mut Names) {
        let found = perf_map::names(pid, addresses, self.deadline);
        let named = found.as_ref().map_or(0, BTreeMap::len);
        if named < addresses.len() {
            let why = match &found {
                Ok(_some) => "its runtime did not write all of it down".to_owned(),
                Err(why_not) => why_not.to_string(),
            };
            self.notes.push(format!(
                "code that process {pid} made at run time has no names ({} of {} addresses): {why}",
                addresses.len() - named,
                addresses.len()
            ));
        }
        let mut found = found.unwrap_or_default();
        for &address in addresses {
            let frame = match found.remove(&address) {
                Some(name) => Frame {
                    name,
                    module: None,
                    kind: FrameKind::Jit,
                },
                None => Frame {
                    kind: FrameKind::Jit,
                    ..note("[made at run time]")
                },
            };
            names.insert(Address::Jit { pid, address }, vec![frame]);
        }
    }

    /// For each address the functions there, outermost first.
    fn found(&self, source: &Source<'_>, input: &Input<&[u64]>) -> Vec<Option<Vec<Frame>>> {
        let count = match input {
            Input::AbsAddr(all) | Input::VirtOffset(all) | Input::FileOffset(all) => all.len(),
        };
        match self.symbolizer.symbolize(source, *input) {
            Ok(found) => found.iter().map(functions).collect(),
            Err(error) => {
                tracing::debug!(%error, "failed to find symbols");
                vec![None; count]
            }
        }
    }
}

fn functions(found: &Symbolized<'_>) -> Option<Vec<Frame>> {
    let Symbolized::Sym(symbol) = found else {
        return None;
    };
    let Sym { name, inlined, .. } = symbol;
    let outer = (name, FrameKind::User);
    let inner = inlined
        .iter()
        .map(|function| (&function.name, FrameKind::Inlined));
    let frames = std::iter::once(outer)
        .chain(inner)
        .map(|(name, kind)| Frame {
            name: name.clone().into_owned(),
            module: None,
            kind,
        });
    Some(frames.collect())
}

fn note(text: &str) -> Frame {
    Frame {
        name: text.to_owned(),
        module: None,
        kind: FrameKind::Note,
    }
}

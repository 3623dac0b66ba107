//! The modules of a crate and which of them use which, read from the sources.
//!
//! A module uses another one if a path in its code leads there. Re-exports are followed to the
//! module that defines the item. Code under `#[cfg(test)]` does not count. A module whose file depends
//! on the processor (`#[cfg(target_arch)]` with `#[path]`) is that of one architecture.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use syn::{Attribute, Item, UseTree, visit::Visit};

/// Path of a module from the crate's root, such as `["view", "exits"]`; empty for the root.
type ModulePath = Vec<String>;

#[derive(Debug, Default)]
struct Module {
    /// The target of each imported name, as a path from the crate's root.
    imports: BTreeMap<String, ModulePath>,
    /// The child modules whose files are elsewhere, as paths from this module.
    moved: BTreeMap<String, ModulePath>,
    /// Paths in the code, as they are written.
    paths: BTreeSet<Vec<String>>,
    /// First names of the paths in `use` declarations: crates, `crate`, `self` or `super`.
    import_roots: BTreeSet<String>,
}

/// The modules of one crate.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    modules: BTreeMap<ModulePath, Module>,
}

impl Graph {
    /// Reads all modules below a crate's `src` folder, as they are on one architecture.
    pub(crate) fn read(src: &Path, target_arch: &str) -> Self {
        let mut graph = Self::default();
        graph.read_folder(src, src, target_arch);
        let paths: BTreeSet<_> = graph.modules.keys().cloned().collect();
        for (path, module) in &mut graph.modules {
            module.resolve_imports(path, &paths);
        }
        graph
    }

    fn read_folder(&mut self, folder: &Path, src: &Path, target_arch: &str) {
        let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                self.read_folder(&path, src, target_arch);
            } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let below_src = path.strip_prefix(src).expect("a path below src");
                self.modules
                    .insert(module_path(below_src), Module::parse(&text, target_arch));
            }
        }
    }

    /// Returns the modules that use one of these crates.
    pub(crate) fn users_of_crates(&self, crates: &[&str]) -> Vec<String> {
        let uses_one = |module: &Module| {
            let in_code = module.paths.iter().filter_map(|it| it.first());
            let mut names = module.import_roots.iter().chain(in_code);
            names.any(|it| crates.contains(&it.as_str()))
        };
        let users = self.modules.iter().filter(|(_, module)| uses_one(module));
        users.map(|(path, _)| path.join("::")).collect()
    }

    /// Returns the modules in whose code a path starts with one of these.
    pub(crate) fn users_of_paths(&self, starts: &[&[&str]]) -> Vec<String> {
        let starts_with = |path: &[String], start: &[&str]| {
            path.len() >= start.len() && path.iter().zip(start).all(|(a, b)| a == b)
        };
        let uses_one = |module: &Module| {
            let is_one = |path: &Vec<String>| starts.iter().any(|it| starts_with(path, it));
            module.paths.iter().any(is_one)
        };
        let users = self.modules.iter().filter(|(_, module)| uses_one(module));
        users.map(|(path, _)| path.join("::")).collect()
    }

    /// Returns the modules that each module uses.
    pub(crate) fn uses(&self) -> BTreeMap<String, BTreeSet<String>> {
        let uses = self.modules.iter().map(|(path, module)| {
            let imports = module.imports.values().cloned();
            let in_code = module.paths.iter().filter_map(|it| self.absolute(path, it));
            let used = imports.chain(in_code).map(|it| self.defining_module(&it));
            let used = used.filter(|it| it != path).map(|it| it.join("::"));
            (path.join("::"), used.collect())
        });
        uses.collect()
    }

    /// Resolves a path in a module's code to a path from the crate's root. Returns `None` for paths of other crates.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        if let Some(absolute) = absolute(module, path) {
            return Some(absolute);
        }
        let imported = self.modules[module].imports.get(first).cloned();
        let mut base = imported.or_else(|| {
            let child: ModulePath = [module, std::slice::from_ref(first)].concat();
            self.modules.contains_key(&child).then_some(child)
        })?;
        base.extend_from_slice(rest);
        Some(base)
    }

    /// Returns the module that defines the item at a path. Follows re-exports.
    fn defining_module(&self, path: &[String]) -> ModulePath {
        let mut module = ModulePath::new();
        for (index, name) in path.iter().enumerate() {
            let child: ModulePath = [&module, std::slice::from_ref(name)].concat();
            if self.modules.contains_key(&child) {
                module = child;
            } else if let Some(target) = self.modules[&module].imports.get(name) {
                let target = [target, &path[index + 1..]].concat();
                return self.defining_module(&target);
            } else {
                break;
            }
        }
        module
    }
}

impl Module {
    fn parse(text: &str, target_arch: &str) -> Self {
        let file = syn::parse_file(text).expect("Rust");
        let mut module = Self::default();
        module.visit_file(&file);
        for item in &file.items {
            if let Item::Mod(it) = item
                && let Some(target) = moved_module(it, target_arch)
            {
                module.moved.insert(it.ident.to_string(), target);
            }
        }
        module
    }

    fn add_use(&mut self, prefix: &[String], tree: &UseTree) {
        let append = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(it) => self.add_use(&append(&it.ident), &it.tree),
            UseTree::Name(it) if it.ident == "self" => {
                let name = prefix.last().expect("a module").clone();
                self.imports.insert(name, prefix.to_vec());
            }
            UseTree::Name(it) => {
                self.imports.insert(it.ident.to_string(), append(&it.ident));
            }
            UseTree::Rename(it) => {
                let path = if it.ident == "self" {
                    prefix.to_vec()
                } else {
                    append(&it.ident)
                };
                self.imports.insert(it.rename.to_string(), path);
            }
            UseTree::Glob(_) => {
                self.imports
                    .insert(format!("{}::*", prefix.join("::")), prefix.to_vec());
            }
            UseTree::Group(it) => it.items.iter().for_each(|it| self.add_use(prefix, it)),
        }
    }

    /// Makes the paths of imports start at the crate's root, and drops those from other crates.
    fn resolve_imports(&mut self, module: &[String], modules: &BTreeSet<ModulePath>) {
        let mut imports = std::mem::take(&mut self.imports);
        for path in imports.values_mut() {
            if let Some(target) = path.first().and_then(|it| self.moved.get(it)) {
                *path = [target, &path[1..]].concat();
            }
        }
        imports.extend(self.moved.clone());
        for (name, path) in imports {
            self.import_roots.extend(path.first().cloned());
            let child = [module, &path[..1.min(path.len())]].concat();
            let path = absolute(module, &path)
                .or_else(|| modules.contains(&child).then(|| [module, &path].concat()));
            if let Some(path) = path {
                self.imports.insert(name, path);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Module {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_use(&[], &item.tree);
    }

    /// The path in `pub(in path)` is not a use.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|it| it.ident.to_string());
        self.paths.insert(names.collect());
        syn::visit::visit_path(self, path);
    }
}

/// Resolves a path that starts with `crate`, `super` or `self` to a path from the crate's root.
fn absolute(module: &[String], path: &[String]) -> Option<ModulePath> {
    let (first, mut rest) = path.split_first()?;
    let mut base = match first.as_str() {
        "crate" => ModulePath::new(),
        "self" => module.to_vec(),
        "super" => module[..module.len() - 1].to_vec(),
        _ => return None,
    };
    while let Some((first, after)) = rest.split_first().filter(|(first, _)| *first == "super") {
        debug_assert_eq!(first, "super");
        base.pop();
        rest = after;
    }
    base.extend_from_slice(rest);
    Some(base)
}

fn module_path(file: &Path) -> ModulePath {
    let without_extension = file.with_extension("");
    let names = without_extension
        .iter()
        .map(|it| it.to_string_lossy().into_owned());
    let mut path: ModulePath = names.collect();
    if path
        .last()
        .is_some_and(|it| ["mod", "lib", "main"].contains(&it.as_str()))
    {
        path.pop();
    }
    path
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|it| {
        let condition = it.meta.require_list().map(|it| it.tokens.to_string());
        it.path().is_ident("cfg") && condition.is_ok_and(|it| it == "test")
    })
}

/// Returns where the file of a module with `#[path]` is, relative to the declaring module. Returns `None` without
/// the attribute, and if the module is that of another architecture.
fn moved_module(item: &syn::ItemMod, target_arch: &str) -> Option<ModulePath> {
    let value = |it: &syn::MetaNameValue| match &it.value {
        syn::Expr::Lit(syn::ExprLit {
            lit: syn::Lit::Str(it),
            ..
        }) => Some(it.value()),
        _ => None,
    };
    let conditions = item.attrs.iter().filter(|it| it.path().is_ident("cfg"));
    let mut conditions = conditions.filter_map(|it| it.parse_args::<syn::MetaNameValue>().ok());
    if conditions
        .any(|it| it.path.is_ident("target_arch") && value(&it).as_deref() != Some(target_arch))
    {
        return None;
    }
    let path = item.attrs.iter().find(|it| it.path().is_ident("path"))?;
    let file = value(path.meta.require_name_value().ok()?)?;
    Some(module_path(Path::new(&file)))
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Macro(it) => &it.attrs,
        Item::Mod(it) => &it.attrs,
        Item::Static(it) => &it.attrs,
        Item::Struct(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

/// Returns the cycles, as sets of modules that all use each other directly or indirectly.
pub(crate) fn cycles(uses: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<_, _> = uses.keys().map(|it| (it, reachable(it, uses))).collect();
    let mut cycles = BTreeSet::new();
    for (module, others) in &reached {
        let cycle: BTreeSet<_> = others
            .iter()
            .filter(|it| reached.get(it).is_some_and(|it| it.contains(*module)))
            .cloned()
            .collect();
        if cycle.contains(*module) {
            cycles.insert(cycle);
        }
    }
    cycles.into_iter().collect()
}

fn reachable(from: &str, uses: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut todo: Vec<_> = uses[from].iter().collect();
    while let Some(module) = todo.pop() {
        if reached.insert(module.clone()) {
            todo.extend(uses.get(module).into_iter().flatten());
        }
    }
    reached
}

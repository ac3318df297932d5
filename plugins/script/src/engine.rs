//! The life of one interpreter: it is started with a script, then called for one decision.

use std::cell::RefCell;
use std::rc::Rc;

use rquickjs::allocator::RustAllocator;
use rquickjs::context::EvalOptions;
use rquickjs::function::Args;
use rquickjs::module::Declared;
use rquickjs::promise::PromiseState;
use rquickjs::{
    CatchResultExt, Context, Ctx, Function, Module, Object, Persistent, Runtime, Value,
};

use crate::bindings::postroom::plugin::origin;
use crate::bindings::postroom::plugin::types::{
    Context as MailContext, Decision, Failure, Message,
};
use crate::bindings::{ScriptError, ScriptImport, ScriptModule};
use crate::modules::Modules;
use crate::trouble::Trouble;
use crate::{answer, clock, host, trouble};

/// The limit on the guest's own stack. Each call takes several times as much of the host's stack, which must not end first:
/// then deep recursion is a RangeError of the script with its position, not a trap.
const STACK_BYTES: usize = 256 << 10;
/// The collection threshold. A mail's run is rarely long enough for a collection to pay off, which would touch every page
/// of the image.
const GC_THRESHOLD_BYTES: usize = 16 << 20;
const PRELUDE: &str = include_str!("prelude.js");
const PRELUDE_NAME: &str = "postroom:prelude";

struct Engine {
    context: Context,
    /// The names of the script's files.
    names: Rc<[String]>,
    /// Their texts, for messages. A mail whose rule does not fail leaves them untouched.
    sources: Vec<Rc<str>>,
    /// The function that calls `decide` with a mail and a context made from its arguments.
    run: Persistent<Function<'static>>,
    decide: Persistent<Function<'static>>,
    /// The class of the values that the constructors make.
    action: Persistent<Object<'static>>,
}

thread_local! {
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
}

/// Starts the interpreter and evaluates the script's top level, unless an imported file was not passed in.
pub fn init(modules: Vec<ScriptModule>) -> Result<Vec<ScriptImport>, ScriptError> {
    let modules = Modules::new(modules);
    let prepared = prepare(&modules).map_err(|trouble| {
        let place = trouble.place.unwrap_or_default();
        ScriptError {
            file: place.file,
            message: trouble.message,
            line: place.line,
            column: place.column,
        }
    });
    match prepared? {
        Prepared::Ready(engine) => {
            modules.seal();
            ENGINE.set(Some(*engine));
            crate::MEMORY.settle();
            Ok(Vec::new())
        }
        Prepared::Lacking(imports) => Ok(imports),
    }
}

/// Decides one mail.
pub fn decide(message: &Message, context: MailContext) -> Result<Decision, Failure> {
    ENGINE.with_borrow(|engine| {
        let engine = engine.as_ref().ok_or_else(|| Failure {
            message: "no script was loaded".into(),
            location: None,
        })?;
        clock::pin(&context);
        let _mail = host::lend(message, &context.tenant);
        engine
            .context
            .with(|ctx| engine.decide(&ctx, &context))
            .map_err(|trouble| Failure {
                location: trouble.place.map(|place| place.to_string()),
                message: trouble.message,
            })
    })
}

impl Engine {
    fn decide(&self, ctx: &Ctx<'_>, context: &MailContext) -> Result<Decision, Trouble> {
        let caught = |error: rquickjs::CaughtError<'_>| {
            Trouble::from_caught(&error, &self.names).with_callee(|file| self.source(file))
        };
        let returned = self.call(ctx, context).catch(ctx).map_err(caught)?;
        let class = self
            .action
            .clone()
            .restore(ctx)
            .catch(ctx)
            .map_err(caught)?;
        let (decision, decisive) = answer::decision(ctx, &class, &returned)
            .map_err(|message| Trouble::new(format!("nonsense: {message}")))?;
        if let Some(action) = decisive {
            origin::decided_at(&self.path(ctx, &action));
        }
        Ok(decision)
    }

    fn source(&self, file: &str) -> Option<Rc<str>> {
        let index = self.names.iter().position(|name| name == file)?;
        self.sources.get(index).cloned()
    }

    /// Returns where an action was made, and the calls that led there, innermost first; empty if the script hid it.
    fn path(&self, ctx: &Ctx<'_>, action: &Object<'_>) -> Vec<String> {
        let stack = action.get::<_, Value>("stack").catch(ctx).ok();
        let stack = stack.and_then(|stack| stack.into_string()?.to_string().ok());
        let path = trouble::path(&stack.unwrap_or_default(), &self.names);
        path.iter().map(ToString::to_string).collect()
    }

    fn call<'js>(&self, ctx: &Ctx<'js>, context: &MailContext) -> rquickjs::Result<Value<'js>> {
        let run = self.run.clone().restore(ctx)?;
        let mut args = Args::new(ctx.clone(), 7);
        args.push_arg(self.decide.clone().restore(ctx)?)?;
        args.push_arg(context.tenant.as_str())?;
        args.push_arg(context.mailbox.as_str())?;
        args.push_arg(context.now.as_str())?;
        args.push_arg(host::client(ctx, context.client.as_ref())?)?;
        args.push_arg(context.staff)?;
        args.push_arg(host::thread(ctx, context.thread.as_ref())?)?;
        run.call_arg(args)
    }
}

enum Prepared {
    Ready(Box<Engine>),
    /// Nothing was evaluated.
    Lacking(Vec<ScriptImport>),
}

fn prepare(modules: &Modules) -> Result<Prepared, Trouble> {
    let out_of_memory = |_| Trouble::new("not enough memory for the interpreter");
    let runtime = Runtime::new_with_alloc(RustAllocator).map_err(out_of_memory)?;
    runtime.set_max_stack_size(STACK_BYTES);
    runtime.set_gc_threshold(GC_THRESHOLD_BYTES);
    runtime.set_loader(modules.clone(), modules.clone());
    let context = Context::full(&runtime).map_err(out_of_memory)?;
    let handles = context.with(|ctx| load(&ctx, modules));
    let Some((run, decide, action)) = handles? else {
        return Ok(Prepared::Lacking(modules.take_missing()));
    };
    // The image should contain no garbage.
    runtime.run_gc();
    Ok(Prepared::Ready(Box::new(Engine {
        context,
        names: modules.names(),
        sources: modules.sources(),
        run,
        decide,
        action,
    })))
}

type Handles = (
    Persistent<Function<'static>>,
    Persistent<Function<'static>>,
    Persistent<Object<'static>>,
);

/// Evaluates the modules; returns `None` if an imported module is missing.
fn load(ctx: &Ctx<'_>, modules: &Modules) -> Result<Option<Handles>, Trouble> {
    let names = modules.names();
    let caught = |error: rquickjs::CaughtError<'_>| match modules.take_refused() {
        Some(refused) => refused,
        None => Trouble::from_caught(&error, &names).with_place_of_import(modules),
    };
    let (name, source) = modules
        .entry()
        .ok_or_else(|| Trouble::new("no script was passed in"))?;
    let prelude = surroundings(ctx).catch(ctx).map_err(caught)?;
    let module = Module::declare(ctx.clone(), name, &*source)
        .catch(ctx)
        .map_err(caught)?;
    if modules.lacks_any() {
        return Ok(None);
    }
    let exports = top_level(module)
        .catch(ctx)
        .map_err(caught)?
        .ok_or_else(|| {
            Trouble::new("await at the top level is not available: rules cannot wait")
        })?;
    let decide: Value = exports.get("decide").catch(ctx).map_err(caught)?;
    let decide = decide
        .into_function()
        .ok_or_else(|| Trouble::new("there is no `export function decide(mail, ctx)`"))?;
    let run: Function = prelude.get("run").catch(ctx).map_err(caught)?;
    let action: Object = prelude.get("Action").catch(ctx).map_err(caught)?;
    Ok(Some((
        Persistent::save(ctx, run),
        Persistent::save(ctx, decide),
        Persistent::save(ctx, action),
    )))
}

/// Runs the prelude, which defines the globals.
fn surroundings<'js>(ctx: &Ctx<'js>) -> rquickjs::Result<Object<'js>> {
    let mut options = EvalOptions::default();
    options.filename = Some(PRELUDE_NAME.into());
    let prelude: Function = ctx.eval_with_options(PRELUDE, options)?;
    prelude.call((host::functions(ctx)?,))
}

/// Returns the script's exports; `None` if its top level still waits for something.
fn top_level<'js>(module: Module<'js, Declared>) -> rquickjs::Result<Option<Object<'js>>> {
    let (module, promise) = module.eval()?;
    match promise.state() {
        PromiseState::Pending => Ok(None),
        PromiseState::Resolved => module.namespace().map(Some),
        PromiseState::Rejected => match promise.result::<Value>() {
            Some(Err(error)) => Err(error),
            _ => Ok(None),
        },
    }
}

"""The page, in gradio: what is on it and what its buttons do."""

import asyncio
import html
import pathlib
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from importlib import resources
from typing import Any

import gradio as gr

from evenhand.app import html as pieces
from evenhand.app.desk import Desk, Job
from evenhand.app.drawing import Memory, compare
from evenhand.app.html import Shown
from evenhand.app.pages import pages
from evenhand.app.settings import GUIDED, MOST, STEP, STRONGEST, App, asked
from evenhand.app.studio import FIRST, Studio
from evenhand.core.errors import UserError

STYLE = (resources.files("evenhand.app") / "style.css").read_text(encoding="utf-8")
LOOK = 0.1  # seconds between two looks at what has come
NONE = "none"
EXAMPLES = {
    True: [
        "an emoji of a firefighter",
        "an emoji of a pilot",
        "an emoji of a health worker",
        "an emoji of a teacher",
    ],
    False: [
        "a photo of the face of a firefighter",
        "a photo of the face of a nurse",
        "a photo of the face of a pilot",
        "a photo of the face of a teacher",
    ],
}
Update = tuple[Any, ...]  # status, shares and pictures, as HTML


def build(app: App, studio: Studio, desk: "Desk[Shown]") -> gr.Blocks:
    """The page of an app."""
    with gr.Blocks(title="evenhand", analytics_enabled=False) as page:
        gr.HTML("<h1>Whom does this model draw?</h1>", elem_classes="eh-title")
        with gr.Tabs():
            with gr.Tab("Draw"):
                _drawing(app, studio, desk)
            if app.runs is not None:
                with gr.Tab("Reports") as tab:
                    _reports(app, tab)
    return page.queue(default_concurrency_limit=None, api_open=False)


def _drawing(app: App, studio: Studio, desk: "Desk[Shown]") -> None:
    memory = Memory()
    with gr.Row(elem_classes="eh-columns"):
        with gr.Column(scale=1, min_width=300):
            prompt = _prompt(studio)
            gr.Examples([[x] for x in _examples(studio)], [prompt], label="Examples")
            inputs = [prompt, *_choices(app, studio)]
            with gr.Row():
                start = gr.Button("Draw", variant="primary", elem_id="draw", min_width=100)
                stop = gr.Button("Stop", elem_id="stop", min_width=100)
        with gr.Column(scale=2, min_width=300):
            status = gr.HTML(said("Ready."), elem_id="status")
            pictures = gr.HTML("", elem_id="pictures")
            shares = gr.HTML("", elem_id="shares")

    async def draw(
        prompt: str,
        model: str,
        adapter: str,
        strength: float,
        guidance: str,
        images: int,
        seed: int,
        width: float,
        request: gr.Request,
    ) -> AsyncIterator[Update]:
        given = {
            "prompt": prompt,
            "model": model,
            "adapter": None if adapter in (None, "", NONE) else adapter,
            "strength": strength,
            "guidance": (guidance or "").strip() or None,
            "images": images,
            "seed": seed,
            "width": width,
        }
        async for update in _followed(given, studio, desk, memory, _visitor(request)):
            yield update

    how: Any = {"show_progress": "hidden", "api_visibility": "private"}
    gr.on(
        [start.click, prompt.submit],
        draw,
        inputs,
        [status, shares, pictures],
        trigger_mode="multiple",  # a second click draws anew, with what is chosen now
        concurrency_limit=None,  # the desk lets one at a time to the device
        **how,
    )

    def end(request: gr.Request) -> None:
        desk.stop(_visitor(request))

    stop.click(end, None, None, queue=False, **how)


def _visitor(request: gr.Request) -> str:
    """A page that is open in some browser."""
    return request.session_hash or ""


def _examples(studio: Studio) -> list[str]:
    return EXAMPLES[studio.models[0] == FIRST]


def _prompt(studio: Studio) -> gr.Textbox:
    return gr.Textbox(
        _examples(studio)[0],
        label="Prompt",
        info="Do not say which person is shown: the page counts whom the model chooses.",
        lines=1,  # so Enter draws
        max_lines=4,
        elem_id="prompt",
    )


def _choices(app: App, studio: Studio) -> list[Any]:
    """What else a visitor may choose, in the order in which `draw` takes it."""
    typed = "Or type a folder, or a name of the Hub." if app.alone else None
    model = gr.Dropdown(
        studio.models,
        value=studio.models[0],
        label="Model",
        info=typed,
        allow_custom_value=app.alone,
        elem_id="model",
    )
    adapter = gr.Dropdown(
        [NONE, *((pathlib.Path(name).name, name) for name in studio.adapters)],
        value=[*studio.adapters, NONE][0] if app.adapters or studio.models[0] == FIRST else NONE,
        label="Adapter",
        info=typed,
        allow_custom_value=app.alone,
        elem_id="adapter",
    )
    strength = gr.Slider(
        0, STRONGEST, value=1, step=0.05, label="Strength of the adapter", elem_id="strength"
    )
    with gr.Accordion("More settings", open=False):
        guidance = gr.Textbox(
            "",
            label="Guidance",
            info=f"How closely the model follows the prompt: 0 to {GUIDED:g}.",
            placeholder="the model's own",
            max_lines=1,
            elem_id="guidance",
        )
        images = gr.Slider(STEP, MOST, value=24, step=STEP, label="Images", elem_id="images")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="seed")
        width = gr.Slider(
            0.02, 0.3, value=0.1, step=0.01, label="How well is each share to be known? ±"
        )
    return [model, adapter, strength, guidance, images, seed, width]


async def _followed(
    given: dict[str, Any], studio: Studio, desk: "Desk[Shown]", memory: Memory, visitor: str
) -> AsyncIterator[Update]:
    """What comes of a click, as it comes.

    Of a visitor who has gone away nobody asks for the job any more, which ends it.
    """
    desk.stop(visitor, replaced=True)  # nothing of it may come after what is said now
    try:
        plan = await asyncio.to_thread(studio.plan, asked(**given))  # an adapter may be of the Hub

        def do(job: Job[Shown]) -> Iterator[Shown]:
            return map(pieces.shown, compare(plan, studio, memory, lambda: job.unwanted))

        job = desk.submit(visitor, do)
    except UserError as error:
        yield said(str(error), wrong=True), "", ""
        return
    last, before = Shown("Your turn.", "Stopped.", "", ""), ("", None, None)
    try:
        while not job.replaced:
            done = job.done  # asked before the look, so that nothing is missed
            last = job.latest() or last
            now = (_status(job, last, done, desk.place(job)), last.shares, last.pictures)
            if now != before:  # what has not changed is not sent again
                pairs = zip(now, before, strict=True)
                yield tuple(gr.skip() if x == old else x for x, old in pairs)
                before = now
            if done:
                return
            await asyncio.sleep(LOOK)
    finally:
        job.stop()


def _status(job: "Job[Shown]", last: Shown, done: bool, place: int) -> str:
    """The line that says how far a job is."""
    if done and job.error:
        return said(job.error, wrong=True)
    if done and job.unwanted:
        return said(last.stopped)
    if place:
        others = "1 visitor is" if place == 1 else f"{place} visitors are"
        return said(f"Waiting: {others} before you.")
    return said(last.status)


def said(text: str, *, wrong: bool = False) -> str:
    """A line that screen readers read out."""
    kind = "eh-wrong" if wrong else "eh-status"
    return f'<p role="{"alert" if wrong else "status"}" class="{kind}">{html.escape(text)}</p>'


def _reports(app: App, tab: gr.Tab) -> None:
    """The pages of runs, the newest first."""

    def listed() -> Any:
        found = pages(app.runs)
        return gr.update(choices=found, value=found[0] if found else None), framed(found[:1])

    def framed(names: list[str]) -> str:
        if not names:
            where = html.escape(str(app.runs))
            return f"<p>No report lies in {where} yet; `evenhand measure` makes one.</p>"
        address = "reports/" + urllib.parse.quote(names[0])
        title = html.escape(names[0])
        return (
            f'<p><a href="{address}" target="_blank" rel="noopener">Open {title} alone</a></p>'
            f'<iframe src="{address}" title="report {title}" class="eh-report" '
            'sandbox="allow-scripts allow-popups"></iframe>'
        )

    how: Any = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    chosen = gr.Dropdown([], label="Report", info=f"Those in {app.runs}, the newest first.")
    frame = gr.HTML("", elem_id="report")
    tab.select(listed, None, [chosen, frame], **how)
    chosen.input(lambda name: framed([name] if name else []), [chosen], [frame], **how)

// The pictures of Learn, and the slides of its presenter mode. Python made every frame: here attributes are set, no more.

const SVG = "http://www.w3.org/2000/svg";
const ADDRESS_MS = 250; // browsers allow few changes of the address a second
const ROOM_MS = 200; // the presenter's place is sent to the room at most this often

const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
};

// ------------------------------------------------------------------------------------------- pictures

function picture(drawing, alt, frame) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${drawing.width} ${drawing.height}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", alt);
  const moving = [];
  const set = (node, name, value) => {
    if (name === "text") node.textContent = value;
    else node.setAttribute(name, value);
  };
  for (const { tag, ...attributes } of drawing.marks) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (Array.isArray(value)) moving.push([node, name, value]);
      else set(node, name, value);
    }
    svg.append(node);
  }
  let shown = null;
  const show = (to) => {
    for (const [node, name, values] of moving) {
      if (shown === null || values[to] !== values[shown]) set(node, name, values[to]);
    }
    shown = to;
  };
  show(frame);
  return { svg, show };
}

// A picture with its control: a slider over the frames, and play and pause. `moved` is called with each new frame.
function player(step, start, moved) {
  const root = make("div", { class: "player" });
  let frame = start;
  let playing = null;
  const seen = make("p", { class: "seen" });
  if (!step.drawing) {
    root.append(make("p", { class: "empty" }, step.empty));
    return { root, seen, frame: () => 0, show() {}, nudge() {}, toggle() {}, stop() {} };
  }
  const drawn = picture(step.drawing, step.alt, frame);
  root.append(drawn.svg);
  const control = step.control;
  let range, output, button;
  const render = () => {
    seen.textContent = step.findings[frame];
    if (!control) return;
    range.value = frame;
    range.setAttribute("aria-valuetext", control.shown[frame]);
    output.textContent = control.shown[frame];
  };
  const show = (to, quietly = false) => {
    const next = Math.min(Math.max(to, 0), step.drawing.frames - 1);
    if (next !== frame) {
      frame = next;
      drawn.show(frame);
    }
    render();
    if (!quietly) moved(frame, playing !== null);
  };
  const stop = () => {
    if (playing === null) return;
    cancelAnimationFrame(playing);
    playing = null;
    button.textContent = "Play";
    moved(frame, false);
  };
  const play = () => {
    const last = step.drawing.frames - 1;
    const first = frame === last ? 0 : frame;
    const began = performance.now();
    button.textContent = "Pause";
    const tick = (now) => {
      const to = Math.min(last, first + Math.floor(((Math.max(now, began) - began) * control.rate) / 1000));
      playing = requestAnimationFrame(tick);
      if (to !== frame) show(to);
      if (to === last) stop();
    };
    playing = requestAnimationFrame(tick);
  };
  const toggle = () => control && (playing === null ? play() : stop());
  if (control) {
    range = make("input", { type: "range", min: "0", max: String(step.drawing.frames - 1), step: "1" });
    range.setAttribute("aria-label", control.label);
    range.addEventListener("input", () => {
      const to = Number(range.value);
      stop();
      show(to);
    });
    button = make("button", { type: "button", class: "play", title: "Play and pause (P)" }, "Play");
    button.addEventListener("click", toggle);
    output = make("output", {});
    root.append(
      make("div", { class: "control" }, make("span", { class: "label" }, control.label),
        make("div", { class: "row" }, button, range, output)),
    );
  }
  render();
  return {
    root, seen, show, stop, toggle,
    frame: () => frame,
    nudge: (by) => {
      if (!control) return;
      stop();
      show((Math.floor(frame / control.stops) + by) * control.stops);
    },
  };
}

// ------------------------------------------------------------------------------------------ the address

let addressTimer = null;
function writeAddress(steps, place) {
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => {
    const asked = new URLSearchParams(location.search);
    for (const step of steps) if (step.control) asked.delete(step.control.key);
    const { control } = steps[place.step];
    asked.set("step", String(steps[place.step].number));
    if (control && place.frame !== control.start) asked.set(control.key, control.values[place.frame]);
    if (place.reveal) asked.set("reveal", String(place.reveal));
    else asked.delete("reveal");
    history.replaceState(history.state, "", `${location.pathname}?${asked}`);
  }, ADDRESS_MS);
}

const colours = (node, palette) => {
  for (const [name, value] of Object.entries(palette)) node.style.setProperty(`--${name}`, value);
};

// ------------------------------------------------------------------------------------ the reader's page

function page(root, data, send) {
  const [step] = data.steps;
  const place = { step: 0, frame: data.frame, reveal: 0 };
  const one = player(step, data.frame, (frame, moving) => {
    place.frame = frame;
    if (!moving) writeAddress(data.steps, place);
  });
  one.seen.setAttribute("aria-live", "polite");
  root.append(one.root, one.seen);
  if (step.drawing) {
    const save = make("button", { type: "button", class: "save" }, "Save");
    save.addEventListener("click", () => { one.stop(); send("saved", one.frame()); });
    root.append(save);
  }
  return {
    update: () => writeAddress(data.steps, place),
    end: () => {
      one.stop();
      clearTimeout(addressTimer);
    },
  };
}

// ----------------------------------------------------------------------------------------------- slides

function question(check, reveal, bars, answer, chosen) {
  const box = make("div", { class: "question" }, make("h2", {}, check.question));
  const most = bars ? Math.max(1, ...bars) : 1;
  check.answers.forEach((text, index) => {
    const css = reveal > 1 ? (index === check.right ? "answer right" : "answer wrong") : "answer";
    const line = answer && reveal === 1
      ? make("button", { type: "button", class: css, disabled: chosen !== null }, text)
      : make("div", { class: css }, text);
    if (index === chosen) line.append(make("span", { class: "yours" }, " (your answer)"));
    if (line.tagName === "BUTTON") line.addEventListener("click", () => answer(index));
    if (bars && reveal > 1) {
      const bar = make("span", { class: "bar" });
      bar.style.width = `${(100 * bars[index]) / most}%`;
      line.append(make("span", { class: "count" }, ` ${bars[index]}`), bar);
    }
    box.append(line);
  });
  if (reveal > 1) box.append(make("p", { class: "reason" }, check.reason));
  return box;
}

function slides(root, data, send) {
  const { steps } = data;
  const follows = data.mode === "room";
  const frames = steps.map((step, index) => (index === data.step ? data.frame : step.control ? step.control.start : 0));
  let at = data.step;
  let reveal = data.reveal;
  let black = false;
  let room = null; // what the server last said of the room
  let current = null;
  let notes = null;
  const began = Date.now();

  const title = make("h1", {});
  const counter = make("span", { class: "counter" });
  const stage = make("div", { class: "stage" });
  const beside = make("div", { class: "beside" });
  const state = make("span", { class: "state", role: "status" });
  const curtain = make("div", { class: "curtain", hidden: true });
  const footer = make("footer", {});
  const deck = make("section", { class: follows ? "deck room" : "deck", popover: "manual" });
  deck.setAttribute("aria-label", "Slides");
  deck.append(make("header", {}, title, counter), make("div", { class: "body" }, stage, beside), footer, curtain);

  const button = (text, hint, action, css = "") => {
    const made = make("button", { type: "button", class: css, title: hint }, text);
    made.addEventListener("click", action);
    footer.append(made);
    return made;
  };
  const place = () => ({ step: at, frame: frames[at], reveal });
  let told = 0;
  let tellTimer = null;
  const tell = () => {
    if (follows || !room) return;
    clearTimeout(tellTimer);
    const left = Math.max(0, told + ROOM_MS - performance.now());
    tellTimer = setTimeout(() => {
      told = performance.now();
      send("at", place());
    }, left);
  };
  const changed = () => {
    writeAddress(steps, place());
    tell();
  };

  const render = () => {
    const step = steps[at];
    title.textContent = `${step.number}. ${step.title}`;
    counter.textContent = `${at + 1} / ${steps.length}`;
    if (current) current.stop();
    const mine = player(step, frames[at], (frame, moving) => {
      frames[mineAt] = frame;
      if (moving) tell();
      else changed();
      renderNotes();
    });
    const mineAt = at;
    current = mine;
    if (follows) mine.root.querySelectorAll("input, button").forEach((node) => (node.disabled = true));
    stage.replaceChildren(mine.root);
    renderBeside();
  };

  const bars = () => (room && room.poll && room.poll.step === at ? room.poll.counts : null);
  let besideNow = "";
  const renderBeside = () => {
    const step = steps[at];
    const chosen = room && room.poll && room.poll.step === at && room.poll.mine !== undefined ? room.poll.mine : null;
    const key = JSON.stringify([at, reveal, bars(), chosen, room && room.poll, room && room.note]);
    if (key === besideNow) return;
    besideNow = key;
    beside.replaceChildren();
    if (step.missing) beside.append(make("p", { class: "missing" }, step.missing));
    if (!reveal) beside.append(make("p", { class: "say" }, step.say));
    else {
      const answer = follows ? (index) => send("answer", { step: at, choice: index }) : null;
      beside.append(question(step.check, reveal, bars(), answer, chosen));
      if (reveal === 1 && room && room.poll && room.poll.step === at) {
        const given = room.poll.given;
        beside.append(make("p", { class: "given" }, `${given} answer${given === 1 ? "" : "s"}`));
      }
    }
    if (room && room.note) beside.append(make("p", { class: "missing" }, room.note));
    renderNotes();
  };

  const go = (to) => {
    const next = Math.min(Math.max(to, 0), steps.length - 1);
    if (next === at) return;
    at = next;
    reveal = 0;
    render();
    changed();
  };
  const ask = () => {
    reveal = (reveal + 1) % 3;
    renderBeside();
    changed();
  };
  const setBlack = (on) => {
    black = on;
    curtain.hidden = !black;
  };

  // --------------------------------------------------------------------------------- the speaker's notes
  const openNotes = () => {
    notes = window.open("", "trim-notes", "width=760,height=640");
    if (!notes) return;
    notes.document.title = "Notes";
    notes.document.documentElement.lang = "en";
    notes.document.head.replaceChildren(make("title", {}, "Notes"), make("style", {}, data.style));
    notes.document.body.className = "notes";
    colours(notes.document.body, data.palettes[data.theme]);
    notes.document.addEventListener("keydown", onKey, true);
    besideNow = "";
    renderNotes();
  };
  const renderNotes = () => {
    if (!notes || notes.closed) return;
    const step = steps[at];
    const after = steps[at + 1];
    const minutes = Math.floor((Date.now() - began) / 60000);
    const shown = step.control ? ` · ${step.control.label}: ${step.control.shown[frames[at]]}` : "";
    const parts = [
      make("h1", {}, `${step.number}. ${step.title}`),
      make("p", { class: "seen" }, `${minutes} min${shown}`),
      make("p", { class: "said" }, step.notes),
      make("p", { class: "seen" }, step.drawing ? step.findings[frames[at]] : ""),
      question(step.check, 2, bars(), null, null),
      make("p", { class: "seen" }, after ? `Next: ${after.number}. ${after.title}` : "The last step."),
    ];
    if (room) {
      const save = make("button", { type: "button" }, "Save all answers (CSV)");
      save.addEventListener("click", () => {
        const file = make("a", { href: `data:text/csv;charset=utf-8,${encodeURIComponent(room.csv)}`, download: "answers.csv" });
        file.click();
      });
      const clear = make("button", { type: "button" }, "Clear this step's answers");
      clear.addEventListener("click", () => send("clear", { step: at, at: Date.now() }));
      parts.push(make("p", {}, save, " ", clear));
    }
    notes.document.body.replaceChildren(...parts);
  };

  // ------------------------------------------------------------------------------------------- print view
  let sheets = null;
  const beforePrint = () => {
    sheets = make("div", { id: "trim-print" }, make("style", {}, data.style));
    colours(sheets, data.palettes.light);
    steps.forEach((step, index) => {
      const sheet = make("section", { class: "sheet" }, make("h1", {}, `${step.number}. ${step.title}`));
      if (step.drawing) sheet.append(picture(step.drawing, step.alt, frames[index]).svg);
      const setting = step.control ? `${step.control.label}: ${step.control.shown[frames[index]]}. ` : "";
      sheet.append(make("p", { class: "say" }, step.say), make("p", { class: "seen" }, setting + (step.drawing ? step.findings[frames[index]] : step.empty)));
      sheet.append(make("p", { class: "seen" }, `${step.check.question} ${step.check.answers.map((text, place) => `(${place + 1}) ${text}`).join("; ")}`));
      sheets.append(sheet);
    });
    document.body.append(sheets);
  };
  const afterPrint = () => {
    if (sheets) sheets.remove();
    sheets = null;
  };

  // ------------------------------------------------------------------------------------------------ keys
  const keys = {
    ArrowRight: () => go(at + 1), PageDown: () => go(at + 1), " ": () => go(at + 1),
    ArrowLeft: () => go(at - 1), PageUp: () => go(at - 1),
    Home: () => go(0), End: () => go(steps.length - 1),
    ArrowUp: () => current.nudge(1), ArrowDown: () => current.nudge(-1),
    p: () => current.toggle(), r: ask, n: openNotes,
    b: () => setBlack(!black), ".": () => setBlack(!black), Escape: () => setBlack(false),
  };
  const onKey = (event) => {
    if (!event.isTrusted || event.ctrlKey || event.metaKey || event.altKey) return;  // theme.js presses r, too
    const target = event.composedPath()[0];
    if (event.key === " " && target.tagName === "BUTTON") return;
    const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    if (!event.repeat) action(); // a key held down is one press
  };

  if (follows) {
    button("Look around", "Leave the room's slides for your own page", () => send("around", { at: Date.now() }));
  } else {
    button("Previous", "Previous step (←, Page Up)", () => go(at - 1));
    button("Next", "Next step (→, Page Down)", () => go(at + 1));
    button("Question", "Question, then answer, then picture (R)", ask);
    button("Notes", "A window with what the speaker says (N)", openNotes);
    button("Black", "Black, and back (B)", () => setBlack(!black));
    button("Print", "One PDF of all steps", () => window.print());
    button("Leave", "Leave presenter mode", () => send("leave", { ...place(), at: Date.now() }), "page");
    document.addEventListener("keydown", onKey, true);
    window.addEventListener("beforeprint", beforePrint);
    window.addEventListener("afterprint", afterPrint);
  }
  curtain.addEventListener("click", () => setBlack(false));

  const heard = () => {
    const first = room === null;
    room = window.trimRoom ? window.trimRoom.data : null;
    if (room && follows && room.place) {
      const to = room.place;
      const turned = to.step !== at;
      at = Math.min(to.step, steps.length - 1);
      frames[at] = to.frame;
      reveal = to.reveal;
      if (turned) render();
      else current.show(frames[at], true);
    }
    renderBeside();
    if (first) tell();
  };
  window.addEventListener("trim-room", heard);
  const nav = make("nav", { "aria-label": "Other pages" });
  footer.append(nav);
  const linkPages = () => { // the links are below the slides, and come after them
    if (nav.children.length) return;
    for (const link of document.querySelectorAll(".st-key-presenter-pages a")) {
      const label = link.querySelector("p").textContent;
      if (label === "Learn") continue;
      const made = make("button", { type: "button", class: "page" }, label);
      made.addEventListener("click", () => link.click());
      nav.append(made);
    }
  };
  let wasConnected = true;
  const watch = setInterval(() => {
    linkPages();
    const app = document.querySelector("[data-testid=stApp]");
    const connected = !app || app.dataset.testConnectionState === "CONNECTED";
    const words = connected ? (follows ? "" : data.seminar) : "No connection: the slides go on without it.";
    if (state.textContent !== words) state.textContent = words;
    if (connected && !wasConnected) tell(); // what the room has missed
    wasConnected = connected;
    renderNotes();
  }, 1000);
  state.textContent = follows ? "" : data.seminar;
  footer.append(state);

  root.append(deck);
  deck.showPopover();
  render();
  heard();
  return {
    update: () => { if (!follows) writeAddress(steps, place()); },
    end: () => {
      current.stop();
      clearInterval(watch);
      clearTimeout(addressTimer);
      clearTimeout(tellTimer);
      afterPrint();
      document.removeEventListener("keydown", onKey, true);
      window.removeEventListener("beforeprint", beforePrint);
      window.removeEventListener("afterprint", afterPrint);
      window.removeEventListener("trim-room", heard);
      if (notes && !notes.closed) notes.close();
    },
  };
}

// ------------------------------------------------------------------------------------- what Streamlit calls

const shown = new WeakMap();

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const send = (name, value) => {
    if (name === "leave" || name === "around" || name === "saved") setTriggerValue(name, value);
    else if (window.trimRoom) window.trimRoom.send(name, value);
  };
  let known = shown.get(parentElement);
  if (!known || known.version !== data.version) {
    if (known) {
      known.view.end();
      known.root.remove();
    }
    const root = make("div", { class: "lesson" }, make("style", {}, data.style));
    parentElement.append(root);
    known = { root, version: data.version, view: null, calls: 0 };
    shown.set(parentElement, known);
    const sent = { ...data, steps: JSON.parse(data.steps) };
    known.view = data.mode === "page" ? page(root, sent, send) : slides(root, sent, send);
  }
  colours(known.root, data.palettes[data.theme]);
  known.view.update();
  const call = ++known.calls;
  return () => {
    if (call !== known.calls) return; // Streamlit ends an older call when a newer one has begun
    known.view.end();
    known.root.remove();
    shown.delete(parentElement);
  };
}

// What the server says of the room, for the slides; and what the slides tell the server. The slides themselves are not sent again.

function browserId() {
  const known = localStorage.getItem("trim-browser");
  if (known) return known;
  const id = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  localStorage.setItem("trim-browser", id);
  return id;
}

export default function ({ data, setTriggerValue }) {
  const room = { data, send: (name, value) => setTriggerValue(name, { ...value, browser: browserId() }) };
  window.trimRoom = room;
  if (data.known === false) room.send("hello", {});
  window.dispatchEvent(new CustomEvent("trim-room"));
  return () => { if (window.trimRoom === room) delete window.trimRoom; };
}

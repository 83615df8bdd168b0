// The dialog that asks for the token, and that says why no connection is possible.

import { setText } from "./dom.js";

const TEXTS = {
  AUTH_TOKEN_MISSING: ["Connect to the gateway", "This gateway asks for its token."],
  AUTH_PASSWORD_MISSING: ["Connect to the gateway", "This gateway asks for its password."],
  AUTH_TOKEN_MISMATCH: ["Connect to the gateway", "The token was not accepted."],
  AUTH_PASSWORD_MISMATCH: ["Connect to the gateway", "The password was not accepted."],
  AUTH_DEVICE_TOKEN_MISMATCH: ["Connect to the gateway", "The access of this browser has ended; the gateway's token gives it back."],
};

export class SignIn {
  /** `submit(token)`: a person gave one. */
  constructor({ dialog, submit, again }) {
    this.dialog = dialog;
    this.again = again;
    const find = (id) => dialog.querySelector(`#${id}`);
    this.parts = { title: find("sign-in-title"), text: find("sign-in-text"), error: find("sign-in-error"), fields: find("sign-in-fields"), token: find("token"), go: find("sign-in-go") };
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    find("sign-in-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const token = this.parts.token.value.trim();
      if (!this.parts.fields.hidden && !token) {
        this.parts.token.focus();
        return;
      }
      this.parts.token.value = "";
      if (this.parts.fields.hidden) this.again();
      else submit(token);
    });
  }

  /** Ask for the token. */
  ask(error) {
    const [title, text] = TEXTS[error.details?.code] ?? ["Connect to the gateway", error.message];
    this.open({ title, text, fields: true, go: "Connect" });
  }

  /** Nothing that a person could type here helps. */
  explain(title, text, detail) {
    this.open({ title, text, fields: false, go: "Try again", detail });
  }

  open({ title, text, fields, go, detail }) {
    const { parts } = this;
    setText(parts.title, title);
    setText(parts.text, text);
    setText(parts.go, go);
    setText(parts.error, detail ?? "");
    parts.error.hidden = !detail;
    parts.fields.hidden = !fields;
    if (!this.dialog.open) this.dialog.showModal();
    (fields ? parts.token : parts.go).focus();
  }

  close() {
    if (this.dialog.open) this.dialog.close();
  }
}

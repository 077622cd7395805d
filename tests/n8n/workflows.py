"""What the tests' n8n is seeded with: the shipped template as a user would set it up, and small workflows for n8n's
other ways to answer.
"""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path

from tests.n8n.n8n import BASE, LANGCHAIN, Json

GUIDE = Path(__file__).resolve().parents[2] / "docs/n8n-integration/setup-guide.md"
TEMPLATE = Path(__file__).resolve().parents[2] / "docs/n8n-integration/chat-workflow.json"
SECRET = "kV8x2QmZr6wYtB0nLp4cHs9dJf3gEu7a"  # made for these tests
SLOW_SECONDS = 150
JWT = {"jwtAuth": {"id": "jwt", "name": "Sidegate"}}
USER, PASSWORD = "sidegate", "pW3vKx9Lq2Zt7Rb5"
BASIC = {"httpBasicAuth": {"id": "basic", "name": "Sidegate, by password"}}
MODEL = {"openAiApi": {"id": "model", "name": "Scripted model"}}


def credentials(llm_url: str) -> list[Json]:
    jwt = {"keyType": "passphrase", "secret": SECRET, "privateKey": "", "publicKey": "", "algorithm": "HS256"}
    openai = {"apiKey": "sk-scripted", "organizationId": "", "url": llm_url, "header": False}
    return [
        {"id": "jwt", "name": "Sidegate", "type": "jwtAuth", "data": jwt},
        {
            "id": "basic",
            "name": "Sidegate, by password",
            "type": "httpBasicAuth",
            "data": {"user": USER, "password": PASSWORD},
        },
        {"id": "model", "name": "Scripted model", "type": "openAiApi", "data": openai},
    ]


def shipped() -> Json:
    """The template, with the credentials and the model chosen: what the setup guide asks a user to do, and no more."""
    workflow: Json = json.loads(TEMPLATE.read_text())
    workflow["id"] = "shipped"  # an import through n8n's editor gives it one
    for part in workflow["nodes"]:
        if part["type"] == BASE + "webhook":
            part["credentials"] = JWT
        if part["type"] == LANGCHAIN + "lmChatOpenAi":
            part["credentials"] = MODEL
    return workflow


def shipped_with_body_hash() -> Json:
    """The template with its optional branch enabled as its note says, at a path of its own."""
    workflow = copy.deepcopy(shipped())
    workflow.update(id="hashed", name="hashed")
    for part in workflow["nodes"]:
        part.pop("disabled", None)
        if part["type"] == BASE + "webhook":
            part["parameters"].update(path="hashed", options={"rawBody": True})
            part["webhookId"] = "hashed"
    return workflow


def node(name: str, kind: str, version: float, parameters: Json, **more: object) -> Json:
    """`kind` is the node type without its package's prefix."""
    langchain = {"agent", "lmChatOpenAi", "memoryBufferWindow", "toolCalculator", "chatTrigger", "chat"}
    prefix = LANGCHAIN if kind in langchain else BASE
    return {
        "id": name,
        "name": name,
        "type": prefix + kind,
        "typeVersion": version,
        "position": [0, 0],
        "parameters": parameters,
        **more,
    }


def workflow(path: str, mode: str, *steps: Json, tools: bool = False) -> Json:
    """A webhook at `path` that wants Sidegate's token, answers in `mode`, and runs `steps` one after the other."""
    parameters = {"httpMethod": "POST", "path": path, "authentication": "jwtAuth", "responseMode": mode, "options": {}}
    nodes = [node("Webhook", "webhook", 2.1, parameters, webhookId=path, credentials=JWT), *steps]
    names = [step["name"] for step in nodes]
    links: Json = {
        one: {"main": [[{"node": two, "type": "main", "index": 0}]]} for one, two in itertools.pairwise(names)
    }
    if "AI Agent" in names:
        nodes.append(model())
        links["Model"] = {"ai_languageModel": [[{"node": "AI Agent", "type": "ai_languageModel", "index": 0}]]}
    if tools:
        nodes.append(node("Calculator", "toolCalculator", 1, {}))
        links["Calculator"] = {"ai_tool": [[{"node": "AI Agent", "type": "ai_tool", "index": 0}]]}
    return {
        "id": path,
        "name": path,
        "active": False,
        "nodes": nodes,
        "connections": links,
        "settings": {"executionOrder": "v1"},
    }


def model() -> Json:
    choice = {"__rl": True, "mode": "id", "value": "scripted"}
    return node("Model", "lmChatOpenAi", 1.2, {"model": choice, "options": {"maxRetries": 0}}, credentials=MODEL)


def agent(**more: object) -> Json:
    parameters = {"promptType": "define", "text": "={{ $json.body.chatInput }}", "options": {"enableStreaming": True}}
    return node("AI Agent", "agent", 3, parameters, **more)


def answer(expression: str) -> Json:
    return node("Answer", "set", 3.4, {"mode": "raw", "jsonOutput": expression, "options": {}})


def respond(kind: str, body: str) -> Json:
    return node("Respond", "respondToWebhook", 1.4, {"respondWith": kind, "responseBody": body, "options": {}})


def broken() -> Json:
    error = {"message": "boom inner-secret-41", "description": "boom inner-secret-42"}
    return node("Inner Secret", "stopAndError", 1, {"errorType": "errorObject", "errorObject": json.dumps(error)})


ECHO = "={{ JSON.stringify({ output: 'You said: ' + $json.body.chatInput }) }}"


def slow() -> Json:
    """Says nothing at all until it answers."""
    wait = node(
        "Wait", "wait", 1.1, {"resume": "timeInterval", "amount": SLOW_SECONDS, "unit": "seconds"}, webhookId="w"
    )
    echo = "={{ JSON.stringify({ output: 'You said: ' + $('Webhook').item.json.body.chatInput }) }}"
    return workflow("slow", "responseNode", wait, respond("json", echo))


def later() -> Json:
    """Signs what the guide says for sending later, word for word, and answers with the token."""
    claims = GUIDE.read_text().split("## Sending later\n")[1].split("```")[1]
    kept = "={{ JSON.stringify({ sessionId: $json.body.sessionId, site: $json.jwtPayload.site }) }}"
    sign = {"operation": "sign", "useJson": True, "claimsJson": "=" + claims.strip(), "options": {}}
    return workflow(
        "later",
        "lastNode",
        node("Keep", "set", 3.4, {"mode": "raw", "jsonOutput": kept, "options": {}}),
        node("JWT", "jwt", 1, sign, credentials=JWT),
        answer("={{ JSON.stringify({ output: $json.token + ' ' + $('Keep').item.json.sessionId }) }}"),
    )


def remembering() -> Json:
    """A workflow as people put it on the web: whoever calls it says which session it is."""
    made = workflow("remembering", "streaming", agent())
    webhook = next(part for part in made["nodes"] if part["name"] == "Webhook")
    webhook["parameters"]["authentication"] = "none"
    del webhook["credentials"]
    said = {"sessionIdType": "customKey", "sessionKey": "={{ $json.body.sessionId }}", "contextWindowLength": 10}
    made["nodes"].append(node("Memory", "memoryBufferWindow", 1.3, said))
    made["connections"]["Memory"] = {"ai_memory": [[{"node": "AI Agent", "type": "ai_memory", "index": 0}]]}
    return made


def trigger(path: str, mode: str, *steps: Json, authentication: str = "none", **options: object) -> Json:
    """A workflow behind a chat trigger, which takes what the widget sends."""
    made = workflow(path, mode, *steps)
    first = next(part for part in made["nodes"] if part["name"] == "Webhook")
    options |= {"responseMode": mode}
    parameters = {"public": True, "mode": "webhook", "authentication": authentication, "options": options}
    first.update(type=LANGCHAIN + "chatTrigger", typeVersion=1.4, parameters=parameters)
    first["credentials"] = BASIC if authentication == "basicAuth" else {}
    for talking in made["nodes"]:
        if talking["name"] == "AI Agent":
            talking["parameters"]["text"] = "={{ $json.chatInput }}"
    return made


def chatting() -> Json:
    """A chat trigger with a memory, as the widget's documentation has it."""
    made = trigger("chatting", "streaming", agent(), loadPreviousSession="memory", allowFileUploads=True)
    said = {"sessionIdType": "customKey", "sessionKey": "={{ $json.sessionId }}", "contextWindowLength": 10}
    made["nodes"].append(node("Memory", "memoryBufferWindow", 1.3, said))
    places = [{"node": name, "type": "ai_memory", "index": 0} for name in ("Webhook", "AI Agent")]
    made["connections"]["Memory"] = {"ai_memory": [places]}
    return made


# What a workflow got of a webhook, and from whom.
GOT = """={{ JSON.stringify({ received_sha256: $json.received_sha256, signed_sha256: $json.jwtPayload.body_sha256,
  sub: $json.jwtPayload.sub, aud: $json.jwtPayload.aud, delivery: $json.headers['x-sidegate-delivery'],
  named: $json.jwtPayload.delivery, attempt: $json.headers['x-sidegate-attempt'], body: $json.body }) }}"""


def hooked(path: str, mode: str) -> Json:
    """Takes webhooks: the template's two nodes hold the bytes as they came against the hash in the token."""
    parts = {part["name"]: part for part in shipped_with_body_hash()["nodes"]}
    changed = {"errorType": "errorMessage", "errorMessage": "body_refused"}
    made = workflow(path, mode, parts["Hash of the body"], parts["Body unchanged?"], answer(GOT))
    made["nodes"][0]["parameters"]["options"] = {"rawBody": True}
    made["nodes"].append(node("Body refused", "stopAndError", 1, changed))
    made["connections"]["Body unchanged?"]["main"].append([{"node": "Body refused", "type": "main", "index": 0}])
    return made


def attaching() -> Json:
    """Says what it got: two files' names and types as the chat trigger has them, and the hashes of their bytes. A node
    that hashes drops the files, so each has a branch; the upper one runs first.
    """
    said = "$json.chatInput + $json.files.map(f => ` ${f.binaryKey} ${f.fileName} ${f.mimeType}`).join('')"
    first = "$('Hash data0').first().json.data0"
    made = trigger(
        "attaching",
        "lastNode",
        hashed("data1", position=[0, 200]),
        answer(f"={{{{ JSON.stringify({{ output: {said} + ' ' + {first} + ' ' + $json.data1 }}) }}}}"),
        allowFileUploads=True,
    )
    made["nodes"].append(hashed("data0"))
    made["connections"]["Webhook"]["main"][0].insert(0, {"node": "Hash data0", "type": "main", "index": 0})
    return made


def hashed(binary: str, **more: object) -> Json:
    wanted = {"action": "hash", "type": "SHA256", "binaryData": True, "encoding": "hex"}
    return node(
        f"Hash {binary}", "crypto", 1, wanted | {"binaryPropertyName": binary, "dataPropertyName": binary}, **more
    )


def asking() -> Json:
    """A chat trigger whose workflow asks for a name, and then for leave."""
    made = workflow(
        "asking",
        "streaming",
        talk("Ask", "sendAndWait", "={{ `You said ${$json.chatInput}. Your name?` }}", responseType="freeTextChat"),
        talk("Greet", "send", "={{ 'Hello, ' + $json.chatInput + '. Mail eve.adams@other.test' }}"),
        talk("Leave", "sendAndWait", "May I <img src=//evil.example>?", responseType="approval", **LEAVE),
        talk("Bye", "send", "={{ 'Approved: ' + $json.data.approved }}"),
    )
    trigger = next(part for part in made["nodes"] if part["name"] == "Webhook")
    options = {"responseMode": "responseNodes"}
    parameters = {"public": True, "mode": "hostedChat", "authentication": "none", "options": options}
    del trigger["credentials"]
    trigger.update(type=LANGCHAIN + "chatTrigger", typeVersion=1.4, parameters=parameters)
    return made


LEAVE = {"approvalOptions": {"values": {"approvalType": "double"}}, "blockUserInput": True}


def talk(name: str, operation: str, message: str, **more: object) -> Json:
    """A node that speaks to the visitor."""
    parameters = {"operation": operation, "message": message, "options": {}, **more}
    return node(name, "chat", 1.3, parameters, webhookId=name.lower())


# What a workflow sees of a form: its text, and of each file what n8n makes of it.
SEEN = "$json.body.chatInput + Object.values($binary).map(f => ` ${f.fileName} ${f.mimeType} ${f.fileSize}`).join('')"


def small() -> list[Json]:
    return [
        workflow("files", "lastNode", answer(f"={{{{ JSON.stringify({{ output: {SEEN} }}) }}}}")),
        hooked("hook-at-once", "onReceived"),
        hooked("hook-when-done", "lastNode"),
        remembering(),
        chatting(),
        attaching(),
        trigger("basic", "lastNode", answer(ECHO.replace("body.", "")), authentication="basicAuth"),
        later(),
        slow(),
        workflow("json", "responseNode", respond("json", ECHO)),
        workflow("text", "responseNode", respond("text", "={{ 'You said: ' + $json.body.chatInput }}")),
        workflow("last", "lastNode", answer(ECHO)),
        workflow("received", "onReceived", answer(ECHO)),
        workflow("no-agent", "streaming", answer(ECHO)),
        workflow("tool", "streaming", agent(), tools=True),
        workflow("broken", "streaming", broken()),
        workflow("broken-last", "lastNode", broken()),
        workflow("plain-agent", "streaming", agent()),
        workflow("continue", "streaming", agent(onError="continueRegularOutput")),
    ]

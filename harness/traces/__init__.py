"""Logs of chat calls, as everybody has them: reading them, and finding earlier text in later prompts.

A log has one JSON object per line, plain or gzipped, and each line is one call of a model:

    {"conversation_id": "c1", "agent": "planner", "timestamp": 12.5, "model": "some-model",
     "messages": [{"role": "system", "content": "You plan."}, {"role": "user", "content": "Find a train."}],
     "response": {"role": "assistant", "content": "First look at the timetable."}}

Only the prompt is required. These keys are read, of each row the first that is there:

| meaning | keys |
|---|---|
| prompt | ``messages`` · ``input`` · ``prompt`` · ``text_input`` |
| it lies in | the object itself, or ``request`` · ``payload`` · ``body`` · ``raw_request`` · ``input`` |
| before it | ``system`` or ``instructions`` (text or parts), ``tools`` (definitions) |
| answer | ``response`` · ``choices`` · ``output`` · ``completion`` · ``answer``: text, a message, a whole completion |
| conversation | ``conversation_id`` · ``session_id`` · ``thread_id`` · ``conversation`` · ``session`` · ``trace_id`` |
| agent | ``agent`` · ``agent_name`` · ``agent_role`` · ``agent_id`` |
| time | ``timestamp`` · ``created`` · ``created_at`` · ``start_time`` · ``time`` |

The last three may also lie in ``metadata``. A message's content is text or a list of parts, in OpenAI's or Anthropic's
form, with tool calls and tool results. A part is a piece of text of its own: a log that keeps a question or a report in
its own part says where it begins and ends. Parts that are not text, such as images, are left out and counted. Where no
answer is logged and the last message is the assistant's, that message is the answer. An agent without a name is named
after its system prompt: ``system prompt 1``, ``system prompt 2``.

Other public forms are told by their keys (``forms.py``):

- LMCache's ``trace.jsonl``: ``input``, ``output``, ``session_id``, ``timestamp``;
- aiperf: ``messages`` with ``message_mode`` ``history`` or ``delta``, ``payload``, ``text_input``, ``turns``, and
  ``inputs.json`` (``data`` of ``payloads``);
- SGLang's ``agentic-trace``: one document with ``conversations``, whose answers are not logged;
- Mooncake's and Bailian's traces: ``hash_ids`` of blocks in place of text.
"""

"""Secrets in text: gone whatever form the address has and whoever quotes it, and nothing else gone with them."""

import pytest

from harness.redaction import HIDDEN, has_secret, redact

SECRET = "s3cr3t-W0rd"

URIS = [
    f"http://user:{SECRET}@host",
    f"https://user:{SECRET}@host:5000/a/b?c=d#e",
    f"https://{SECRET}@host",
    f"https://:{SECRET}@host",
    f"postgresql://user:{SECRET}@host/db",
    f"postgresql+psycopg2://user:{SECRET}@[::1]:5432/db",
    f"mysql+pymysql://user:a/b?{SECRET}@host/db",
    f"postgresql://user:a:b#{SECRET}@host/db",
    f"http://user:p@{SECRET}@host",
    f"http://user:{SECRET}%40%2F@host/x",
    f"postgresql://host/db?user=me&password={SECRET}",
    f"postgresql://host/db?password={SECRET}&sslmode=require",
    f"mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BUID%3Dme%3BPWD%3D{SECRET}%3BServer%3Dhost",
    f"http://host/?token={SECRET}",
    f"http://host/?access_token={SECRET}&x=1",
    f"http://host/?api_key={SECRET}",
    f"https://host/c?sv=2024&sig={SECRET}",
    f"https://host/?X-Amz-Security-Token={SECRET}",
    f"s3://AKIAKEY:{SECRET}@bucket/results",
    f"databricks://profile:{SECRET}@host",
]


@pytest.mark.parametrize("uri", URIS)
def test_every_form_of_an_address(uri):
    """Catches a form of address whose password passes, whatever words stand around it."""
    for text in (uri, f"at {uri}: no", f"URL({uri!r})", f'"{uri}",', f"<{uri}>", f"{uri}\n{uri}"):
        assert SECRET not in redact(text), text
        assert redact(text) == redact(redact(text))
    assert has_secret(uri)


@pytest.mark.parametrize(
    ("uri", "secret"),
    [
        (f"http://user:{SECRET}@host", SECRET),
        (f"mysql://user:a/b?{SECRET}@host/db", f"a/b?{SECRET}"),
        (f"http://user:{SECRET}%40%2F@host/x?y=a@b", f"{SECRET}@/"),
        (f"http://user:{SECRET}%40%2F@host/x?y=a@b", f"{SECRET}%40%2F"),
        (f"https://{SECRET}@host", SECRET),
        (f"postgresql://host/db?password={SECRET}%21&x=1", f"{SECRET}!"),
    ],
)
def test_a_secret_that_stands_alone(uri, secret):
    """Catches a driver that quotes the password without its address, as it was written or as it is meant."""
    assert redact(f"login as me with {secret!r} failed at host", uri) == "login as me with '***' failed at host"


@pytest.mark.parametrize(
    "text",
    [
        f"host=h password={SECRET} user=u",
        f"password = '{SECRET}'",
        f"{{'password': '{SECRET}', 'user': 'me'}}",
        f"Server=h;Pwd={SECRET};Uid=me",
        f"PWD={{{SECRET}}};",
        f"MLFLOW_TRACKING_PASSWORD={SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"{{'Authorization': 'Basic {SECRET}'}}",
    ],
)
def test_settings_and_headers(text):
    """Catches secrets in the forms that drivers and HTTP libraries print."""
    assert SECRET not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///results/mlflow.db",
        "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning (Ctrl-C ends it)",
        "https://host/a/b?c=d&e=f",
        "model org/name@0123abc",
        "write to me@example.org",
        "MLflow is left out from here on, and `kvcomm mlflow-sync results` makes up for it",
        "ValueError: token_ids[3] = 17; eos_token=None, max_new_tokens=48",
        "HTTPConnectionPool(host='h', port=80): Max retries exceeded with url: /api/2.0/mlflow?experiment_name=kvcomm",
    ],
)
def test_the_rest_stays(text):
    """Catches messages that no longer say what is wrong."""
    assert redact(text) == text
    assert redact(text, "http://host/x", "sqlite:///a.db") == text


def test_short_passwords_do_not_eat_the_words():
    """Catches an error text of which nothing is left, since the password is a letter."""
    uri = "http://me:a@host"
    assert redact(f"a database at {uri} cannot answer", uri) == "a database at http://***@host cannot answer"


@pytest.mark.parametrize("uri", URIS)
def test_errors_of_the_real_libraries(uri):
    """Catches an exception text of MLflow, SQLAlchemy or requests that tells the password."""
    requests, sqlalchemy = pytest.importorskip("requests"), pytest.importorskip("sqlalchemy")

    def ask():
        requests.get(uri.replace("host", "host.invalid"), timeout=0.01)

    def parse():
        sqlalchemy.make_url(f"{uri} {uri}".replace("://", ":/", 1))

    def connect():
        sqlalchemy.create_engine(uri).connect()

    failed = 0
    for attempt in (ask, parse, connect):
        try:
            attempt()
        except Exception as error:  # noqa: BLE001 - of any library
            failed += 1
            for text in (str(error), repr(error)):
                assert SECRET not in redact(text, uri), text
    assert failed


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", ["x", "://", "://a:", "pwd={", "password='", "?token", "authorization: a ", "a@b:", "%3Fsig%3D"]
)
def test_a_long_text_takes_no_hours(piece):
    """Catches a pattern that is tried from each character to the end: an error may quote an answer of that length."""
    text = piece * (300_000 // len(piece))
    assert redact(f"password=secret {text}").startswith(f"password={HIDDEN} ")

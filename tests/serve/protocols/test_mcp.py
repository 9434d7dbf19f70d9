"""The official MCP client."""

import json

import pytest
from mcp.client import Client

pytestmark = pytest.mark.anyio


def mcp(service):
    return Client(f"{service.url}/mcp/")


async def test_every_api_is_a_tool_with_a_schema(web_service):
    async with mcp(web_service) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert {"Count", "Big", "Locate", "Rot13", "Guarded"} <= set(tools)
    assert tools["Locate"].description == "Says how far a point is from the origin."
    schema = json.dumps(tools["Locate"].input_schema)
    assert '"label"' in schema
    assert '"integer"' in schema
    assert tools["Big"].input_schema["properties"]["input"]["type"] == "integer"


async def test_a_tool_answers_with_text_and_structure(web_service):
    async with mcp(web_service) as client:
        answer = await client.call_tool("Locate", {"x": 3})
    assert answer.structured_content == {"distance": 3}
    assert json.loads(answer.content[0].text) == {"distance": 3}


async def test_a_body_that_is_no_object_is_the_argument_input(web_service):
    async with mcp(web_service) as client:
        assert (await client.call_tool("Big", {"input": 3})).content[0].text == "aaa"
        missing = await client.call_tool("Big", {})
    assert missing.is_error
    assert "input" in missing.content[0].text


async def test_a_spec_of_ones_own_is_a_tool(web_service):
    async with mcp(web_service) as client:
        assert (await client.call_tool("Rot13", {"input": "hello"})).content[0].text == "uryyb"


async def test_errors_of_a_tool_are_sentences(web_service):
    async with mcp(web_service) as client:
        refused = await client.call_tool("Locate", {"x": -1})
        wrong = await client.call_tool("Locate", {"x": "one"})
    assert (refused.is_error, refused.content[0].text) == (True, "x is below zero")
    assert wrong.is_error
    assert "int" in wrong.content[0].text


async def test_a_streams_pieces_are_progress_and_then_joined(web_service):
    told = []

    async def progress(done, total, message):
        told.append((done, message))

    async with mcp(web_service) as client:
        answer = await client.call_tool("Slow", {}, progress_callback=progress)
    assert answer.content[0].text == "firstsecond"
    assert told == [(1, "first"), (2, "second")]


async def test_a_guarded_api_is_guarded_as_a_tool_too(web_service):
    async with mcp(web_service) as client:
        answer = await client.call_tool("Guarded", {})
    assert answer.is_error


async def test_an_unknown_tool_is_an_error(web_service):
    async with mcp(web_service) as client:
        with pytest.raises(Exception, match="There is no tool 'Nothing'"):
            await client.call_tool("Nothing", {})

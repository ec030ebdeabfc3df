-- Reading time and the notebook itself, beneath the title of each chapter; what folds; definitions of terms where they first stand.
local words, name = 0, nil

local counter = { Str = function(el) if el.text:match("%w") then words = words + 1 end end }

local function facts()
  local minutes = math.max(1, math.floor(words / 220 + 0.5))
  local link = pandoc.Link("the notebook", "notebooks/" .. name .. ".ipynb", "", { download = name .. ".ipynb" })
  return pandoc.Div(pandoc.Para({ pandoc.Str(minutes .. (minutes == 1 and " minute" or " minutes") .. " to read · download "), link }), { class = "page-facts" })
end

-- checks/reading.py and checks/signatures.py begin what folds with a paragraph that holds its line. (A div of class solution is a proof to Quarto.)
local function folded(div)
  local kind = div.classes:find_if(function(class) return class == "book-solution" or class == "book-api" end)
  if not kind then return nil end
  local title, open = table.remove(div.content, 1), div.classes:includes("open")
  div.classes = { kind .. "-body" }
  return { pandoc.RawBlock("html", '<details class="' .. kind .. '"' .. (open and " open" or "") .. '><summary>'), pandoc.Plain(title.content),
           pandoc.RawBlock("html", "</summary>"), div, pandoc.RawBlock("html", "</details>") }
end

-- The words of the glossary: each with the term that it belongs to. A word with a capital letter stands for itself only.
local function glossary()
  local file = io.open(pandoc.path.join({ quarto.project.directory, "glossary.qmd" }))
  if not file then return {} end
  local found = {}
  for _, block in ipairs(pandoc.read(file:read("a"), "markdown").blocks) do
    for _, item in ipairs(block.t == "Div" and block.content[1].content or {}) do
      local term = item[1][1]
      local on = term.attributes.on
      local here = not on
      for start in (on or ""):gmatch("%S+") do here = here or name:sub(1, #start) == start end
      local said = pandoc.utils.stringify(term.content) .. ": " .. pandoc.utils.stringify(item[2][1])
      for word in (here and term.attributes.words or ""):gmatch("[^,]+") do
        word = word:match("^%s*(.-)%s*$")
        table.insert(found, { word = word, exact = word ~= word:lower(), id = term.identifier, said = said })
      end
    end
  end
  file:close()
  return found
end

-- Where a word stands in a text, as a whole: not as a part of a longer one, nor of one with a hyphen.
local function place(entry, text, lower)
  local within, from = entry.exact and text or lower, 1
  while true do
    local first, last = within:find(entry.word, from, true)
    if not first then return nil end
    if not text:sub(first - 1, first - 1):match("[%w_-]") and not text:sub(last + 1, last + 1):match("[%w_\xC3-]") then return first, last end
    from = first + 1
  end
end

local nested = { Emph = true, Strong = true, Quoted = true }

-- The first word with a definition in a text becomes a link to it, then the first in what follows.
local function in_text(inlines, entries, known)
  for i, el in ipairs(inlines) do
    if nested[el.t] then  -- read in order: what stands before it, what is in it, what follows
      local done = in_text(pandoc.Inlines({ table.unpack(inlines, 1, i - 1) }), entries, known)
      el.content = in_text(el.content, entries, known)
      done:insert(el)
      done:extend(in_text(pandoc.Inlines({ table.unpack(inlines, i + 1) }), entries, known))
      return done
    end
  end
  local text, starts, best = "", {}, nil  -- what is not text is a byte that no word holds
  for i, el in ipairs(inlines) do
    starts[i] = #text + 1
    text = text .. (el.t == "Str" and el.text or (el.t == "Space" or el.t == "SoftBreak") and " " or "\1")
  end
  local lower = text:lower()
  for _, entry in ipairs(entries) do
    local first, last = place(entry, text, lower)
    if first and not known[entry.id] and (not best or first < best.first or first == best.first and last > best.last) then
      best = { first = first, last = last, entry = entry }
    end
  end
  if not best then return inlines end
  known[best.entry.id] = true
  local before, word, after = pandoc.Inlines({}), pandoc.Inlines({}), pandoc.Inlines({})
  for i, el in ipairs(inlines) do
    local start, stop = starts[i], (starts[i + 1] or #text + 1) - 1
    if stop < best.first then before:insert(el)
    elseif start > best.last then after:insert(el)
    elseif el.t ~= "Str" then word:insert(pandoc.Space())
    else
      local head, tail = el.text:sub(1, math.max(0, best.first - start)), el.text:sub(best.last - start + 2)
      if #head > 0 then before:insert(pandoc.Str(head)) end
      word:insert(pandoc.Str(el.text:sub(#head + 1, #el.text - #tail)))
      if #tail > 0 then after:insert(pandoc.Str(tail)) end
    end
  end
  local done = in_text(before, entries, known)
  done:insert(pandoc.Link(word, "glossary.html#" .. best.entry.id, best.entry.said, { class = "book-term" }))
  done:extend(in_text(after, entries, known))
  return done
end

-- Paragraphs and lists only: no headings, code, tables, figures, callouts, nor what folds.
local function with_terms(blocks, entries, known)
  for i, block in ipairs(blocks) do
    if block.t == "Para" or block.t == "Plain" then block.content = in_text(block.content, entries, known)
    elseif block.t == "BulletList" or block.t == "OrderedList" then
      local items = block.content
      for k, item in ipairs(items) do items[k] = with_terms(item, entries, known) end
      block.content = items
    elseif block.t == "Div" then
      local aside = block.identifier:match("^quarto%-") or block.attributes.__quarto_custom  -- the navigation; figures and callouts, as Quarto holds them here
      if not (aside or block.classes:find_if(function(class) return class == "hidden" or class:match("^book%-") end)) then
        block.content = with_terms(block.content, entries, known)
      end
    end
    blocks[i] = block
  end
  return blocks
end

function Pandoc(doc)
  doc:walk(counter)
  name = quarto.doc.input_file:match("([^/\\]+)%.ipynb$")
  if name and name ~= "index" then doc.blocks = with_terms(doc.blocks, glossary(), {}) end
  doc = doc:walk({ Div = folded })
  quarto.doc.include_text("in-header", '<link rel="stylesheet" href="site/page.css">\n<script src="site/page.js" defer></script>')
  if name and name ~= "index" then table.insert(doc.blocks, 1, facts()) end
  return doc
end

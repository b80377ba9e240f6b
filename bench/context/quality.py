"""Bench of the quality score."""
from __future__ import annotations
import gzip, json, random, sys, statistics
from dataclasses import dataclass, field
from pathlib import Path
from bench.context.scored import has, text_of, wanted_of
from bench.context.sessions import Session, arguments_of, STOP
import bench.context.sessions as S
from undercroft.layers.context.items import Fate
from undercroft.layers.context.ledger import Ledger
from undercroft.layers.context.observing import NOW, Observer, Seen
from undercroft.layers.context.quality import PARTS, Quality
from undercroft.layers.context.words import Words
from undercroft.model.step import Call

import os
MODE=os.environ.get("MODE","stay"); WHEN=os.environ.get("WHEN","delay")
RATES=(0.0,0.05,0.1,0.2,0.4)
TRACES=Path("/work/shared/data/traces")
def conversations(domain):
    out=[]
    for folder in S.DOMAINS[domain]:
        for row in S._rows(TRACES/folder/"traces.jsonl.gz"):
            if row.get("messages") and S._sendable(row["messages"]):
                out.append(S._conversation(row))
    return out
def toks(ms): return sum(len(text_of(m)) for m in ms)//4
def stitched(domain, seed, convs):
    r=random.Random(f"{domain}{seed}")
    waiting=convs[:]; r.shuffle(waiting)
    sessions=[]
    while waiting:
        chosen=[];t=0
        for c in waiting:
            if c.group in {o.group for o in chosen}: continue
            chosen.append(c); t+=toks(c.messages[1:])
            if t>=17000: break
        if t<17000: break
        waiting=[c for c in waiting if c not in chosen]
        ms=(chosen[0].messages[0],*S._joined(chosen))
        sessions.append(Session(f"{domain}{seed}-{len(sessions)}",domain,ms,tuple(c.group for c in chosen),t))
    return sessions
@dataclass
class Prepared:
    session: Session
    texts: list
    words: Words
    ledger: Ledger
    used: dict  # item-> list values for observer
    entries_at: list
    wanted: object
    places: dict
    conflicts: list
def prepare(session):
    words=Words(); ledger=Ledger(words=words); used={}; n_entries=[]; conf=[]
    calls={}
    ms=session.messages
    texts=[text_of(m) for m in ms]
    for i,m in enumerate(ms):
        if i==0: n_entries.append(0); conf.append((0,0)); continue
        if m["role"]=="assistant": conf.append((len(ledger.conflicts()),ledger.slots)); n_entries.append(len(ledger.entries))
        else: conf.append(None); n_entries.append(len(ledger.entries))
        text=m.get("content") or ""
        words.add(i, texts[i])
        if m["role"]=="user": ledger.user(i,text)
        elif m["role"]=="assistant":
            ledger.assistant(i,text)
            u=[]
            for c in m.get("tool_calls") or ():
                calls[c["id"]]=Call(c["function"]["name"],arguments_of(c),c["id"])
                u+=[x.value for x in ledger.call(i,c["function"]["name"],arguments_of(c)) if x.origin!="nobody"]
            used[i]=u
        else: ledger.result(i,m.get("name") or "",text)
    w=wanted_of(session)
    places={v:[i for i,t in enumerate(texts) if i and has(t,v)] for v in w.every}
    p=Prepared(session,texts,words,ledger,used,n_entries,w,places,conf); p.calls=calls
    return p
class Limited(dict): pass
class Masked:
    def __init__(self,p,drops): self.p=p; self.drops=drops; self.now=0; self.cache={}
    def find(self,value,before=NOW):
        limit=min(before,self.now+1)
        items=[i for i in self.p.words.holders(value) if i<limit]
        if not items: return Seen.PRESENT   # only in the system message or said otherwise
        f=value.casefold()
        if f not in self.cache: self.cache[f]=[d for v,d in self.drops.items() if has(f,v)]
        ds=[d for d in self.cache[f] if d<=self.now]
        if not ds: return Seen.PRESENT
        if MODE=="stay": return Seen.GONE
        return Seen.PRESENT if max(items)>=max(ds) else Seen.GONE
    def fate(self,i): return Fate.KEPT
class Upto:
    """entries known so far"""
    def __init__(self,p): self.items_=list(p.ledger.entries.items()); self.d=p.ledger.entries; self.n=0
    def __len__(self): return self.n
    def items(self): return self.items_[:self.n]
    def get(self,k): return self.d.get(k)
EVERY=3000
RECENT=4
def cuts_of(p,seed):
    r=random.Random(f"{p.session.name}|cuts|{seed}")
    left=r.uniform(0.3,1)*EVERY; out=[]
    for i,t in enumerate(p.texts):
        if i==0: continue
        left-=len(t)/4
        if left<=0 and p.session.messages[i]["role"]=="assistant": out.append(i); left=EVERY
    return out
def drops_of(p,rate,seed):
    out={}
    cuts=cuts_of(p,seed)
    for v,pl in sorted(p.places.items()):
        if not pl: continue
        r=random.Random(f"{p.session.name}|{v}|{seed}")
        u=r.random()
        if u<rate:
            if WHEN=="delay": out[v]=pl[0]+r.randint(1,8); continue
            c=next((c for c in cuts if pl[0]+RECENT<=c),None)
            if c: out[v]=c
    return out
def missed(p,drops,v,i):
    d=drops.get(v)
    if d is None or d>i: return False
    if MODE=="stay": return True
    return not any(d<=x<i for x in p.places[v])
@dataclass
class Run:
    scores: list=field(default_factory=list) # (t, value, seen, logparts)
    misses: list=field(default_factory=list)
    alarms: list=field(default_factory=list)
    parts: dict=None
    prompt_means: list=field(default_factory=list)
def run(p,rate,seed):
    drops=drops_of(p,rate,seed)
    sight=Masked(p,drops); q=Quality(); known=Upto(p); ob=Observer(q,sight,known)
    r=Run(); dropat={d for d in drops.values()}
    ms=p.session.messages
    for i,m in enumerate(ms):
        if i==0: continue
        if any(d==i for d in dropat): ob.compacted()
        sight.now=i-1
        text=m.get("content") or ""
        if m["role"]=="user":
            q.begin_turn(); sight.now=i; ob.user(text)
        elif m["role"]=="assistant":
            known.n=p.entries_at[i]
            # masked as of now
            sight.now=i-1
            sight_now=sight
            c,s=p.conflicts[i]
            sp=None
            pm=None
            # peek prompt mean
            orig=q.step
            ob._look()
            if ob._where: q.live(ob._present,ob._recoverable,len(ob._where))
            q.conflicts(c,s); q.pins(whole=True)
            pm=q._prompt.mean(); sess=q.session(); raw=[(b,a) for b,a in zip(q._session.bad,q._session.all)]
            praw=[(b,a) for b,a in zip(q._prompt.bad,q._prompt.all)]
            a=q.step()
            r.scores.append((i,sess.value,q._session.mean() if sess.value is not None else None,raw,praw))
            if a: r.alarms.append(i)
            cs=[p.calls[c["id"]] for c in m.get("tool_calls") or ()]
            ob.answer(i,text,cs,p.used[i])
            for v in p.wanted.used.get(i,()):
                if missed(p,drops,v,i): r.misses.append(i)
        else:
            call=p.calls.get(m.get("tool_call_id"))
            if call: ob.result(i,call,text,ok=not text.startswith("Error"))
    r.parts=q.session().parts
    r.last=q.session().value
    return r
def auc(pos,neg):
    if not pos or not neg: return None
    allv=sorted([(v,1) for v in pos]+[(v,0) for v in neg])
    rank=0; i=0; s=0.0
    while i<len(allv):
        j=i
        while j<len(allv) and allv[j][0]==allv[i][0]: j+=1
        avg=(i+j+1)/2
        s+=avg*sum(x[1] for x in allv[i:j]); i=j
    n=len(pos);m=len(neg)
    return 1-(s-n*(n+1)/2)/(n*m)   # low score predicts miss
def samples(r,H):
    for (t,v,mean,raw,praw) in r.scores:
        if v is None: continue
        yield t,mean,raw,praw,any(t+2<=x<=t+H for x in r.misses),any(x<=t for x in r.misses)

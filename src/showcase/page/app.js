const s=new EventSource("api/stream");s.addEventListener("status",e=>{document.querySelector("main").textContent=e.data});
